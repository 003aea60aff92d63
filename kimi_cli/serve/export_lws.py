"""A plan as a LeaderWorkerSet for Kubernetes (lws.sigs.k8s.io, API leaderworkerset.x-k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import dumps

from kimi_cli.serve.exports import Sheet, comment, indented, sh_lines

_PROBE_SECONDS = 10


def write(sheet: Sheet) -> str:
    """The set, a service for its head and a claim for the weights, in YAML."""
    first = f"$((LWS_WORKER_INDEX * {sheet.copies}))"
    every, others = sheet.command('"$LWS_LEADER_ADDRESS"', '"$LWS_WORKER_INDEX"', first)
    leader = _pod(sheet, every, _KEY.format(name=sheet.name), _PROBES.format(
        port=sheet.port, every=_PROBE_SECONDS, times=2 * sheet.load_seconds // _PROBE_SECONDS,
    ))  # fmt: skip
    worker = _pod(sheet, [*every, *others], "", "")
    return f"""{comment(_heading(sheet))}apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata:
  name: {sheet.name}
spec:
  replicas: 1
  leaderWorkerTemplate:
    size: {sheet.nodes}
    restartPolicy: RecreateGroupOnPodRestart
    leaderTemplate:
      metadata:
        labels:
          role: leader
{indented(leader, 6)}    workerTemplate:
{indented(worker, 6)}---
apiVersion: v1
kind: Service
metadata:
  # The set has a service of its own name, by which its pods find each other.
  name: {sheet.name}-api
spec:
  selector:
    leaderworkerset.sigs.k8s.io/name: {sheet.name}
    role: leader
  ports:
    - name: http
      port: {sheet.port}
      targetPort: http
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {sheet.name}-models
spec:
  accessModes: [{"ReadWriteMany" if sheet.nodes > 1 else "ReadWriteOnce"}]
  resources:
    requests:
      storage: {sheet.weights_gib}Gi
"""


def _heading(sheet: Sheet) -> Iterator[str]:
    yield from sheet.about()
    yield ""
    yield "LeaderWorkerSet must be installed in the cluster. The key is in a secret:"
    yield ""
    yield f"  kubectl create secret generic {sheet.name} \\"
    yield '    --from-literal=key="$(openssl rand -hex 24)"'
    yield f"  kubectl apply -f {sheet.name}-lws.yaml"
    yield f"  kubectl port-forward service/{sheet.name}-api {sheet.port}"
    if sheet.nodes > 1:
        yield ""
        yield "The claim for the weights needs a storage class that several nodes can write to."


_KEY = """\
- name: VLLM_API_KEY
  valueFrom:
    secretKeyRef:
      name: {name}
      key: key
"""
_PROBES = """\
ports:
  - name: http
    containerPort: {port}
startupProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: {every}
  failureThreshold: {times}
readinessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: {every}
"""


def _pod(sheet: Sheet, command: Iterable[str], key: str, probes: str) -> str:
    amd = sheet.plan.machine.nodes[0].vendor == "amd"
    shown = "".join(
        f"- name: {one.name}\n  value: {dumps(one.value)}\n" for one in sheet.environment
    )
    return f"""\
spec:
  # Kubernetes makes variables of the names of services, and a service's could be one of vLLM's.
  enableServiceLinks: false
  containers:
    - name: vllm
      image: {sheet.image}
      command: [/bin/sh, -c]
      args:
        - |
          exec {sh_lines(command, " " * 10)}
      env:
{indented(shown + key, 8)}        - name: VLLM_HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: HF_HOME
          value: /models
{indented(probes, 6)}      resources:
        limits:
          {"amd.com/gpu" if amd else "nvidia.com/gpu"}: {sheet.per_node}
      volumeMounts:
        - name: models
          mountPath: /models
        - name: shm
          mountPath: /dev/shm
  volumes:
    - name: models
      persistentVolumeClaim:
        claimName: {sheet.name}-models
    # The workers of one node talk through it, and the usual 64 MiB are too few.
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {max(8, 2 * sheet.per_node)}Gi
"""
