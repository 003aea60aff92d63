"""Plans as files for clusters: read back, checked and run."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from shlex import quote
from shutil import which
from typing import Any

import pytest
import yaml

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.exports import KINDS, VLLM, CannotExport, export
from kimi_cli.serve.facts import Machine, Plan, Wish
from kimi_cli.serve.gpus import version
from kimi_cli.serve.planner import plan
from tests.support.serve_examples import EXAMPLES, FOLDER

CASES = {
    "two nodes, pipeline": ("kimi-k2.5", "8xH100", 2, Wish()),
    "two nodes, copies and experts": ("kimi-k2", "8xH200", 2, Wish(data_parallel=16)),
    "four nodes": ("kimi-k3", "8xH100", 4, Wish()),
    "one node": ("kimi-k2.5", "8xH200", 1, Wish()),
    "one GPU of four": ("qwen3.6-27b", "4xH100", 1, Wish(tensor_parallel=1)),
    "AMD": ("kimi-k2.5", "8xMI355X", 1, Wish()),
    "JSON in an option": ("kimi-k3", "8xB300", 1, Wish()),
}
KEY = 'it\'s a "key" $HOME'


@pytest.fixture(params=CASES)
def planned(request: pytest.FixtureRequest) -> Plan:
    return of(*CASES[request.param])


def of(model: str, gpus: str, nodes: int, wish: Wish) -> Plan:
    found = plan(find_model(model), describe(gpus, nodes), wish)
    assert isinstance(found, Plan), found.why
    return found


def expected(found: Plan, head: str) -> list[list[str]]:
    """The arguments of each node: those of the plan, reached from anywhere, under that address."""
    changed = {found.commands[0].host: head} if len(found.commands) > 1 else {}
    all_words = []
    for command in found.commands:
        words = [changed.get(word, word) for word in command.argv[1:]]
        words[words.index("--host") + 1] = "0.0.0.0"
        all_words.append(words)
    return all_words


VLLM_STAND_IN = """\
#!/bin/sh
for word; do printf '%s\\0' "$word"; done >"$OUT.$$"
printf '%s' "${VLLM_API_KEY-none}" >"$OUT.$$.key"
printf '%s' "$VLLM_NO_USAGE_STATS" >"$OUT.$$.env"
[ -z "$ROLE" ] || mv "$OUT.$$" "$OUT.$ROLE"
for what in key env; do [ -z "$ROLE" ] || mv "$OUT.$$.$what" "$OUT.$ROLE.$what"; done
"""
SCONTROL = """\
#!/bin/sh
[ "$*" = "show hostnames gpu[07-10]" ] || { echo "what is $*?" >&2; exit 1; }
printf 'gpu07\\ngpu08\\ngpu09\\ngpu10\\n'
"""
SRUN = """\
#!/bin/bash
# Starts the command once on each "node", as srun(1) does for tasks.
while [[ $1 == --* ]]; do
  case $1 in
    --nodes=*) nodes=${1#*=} ;;
    --ntasks=*) tasks=${1#*=} ;;
    --ntasks-per-node=1 | --cpu-bind=none | --kill-on-bad-exit=1) ;;
    *) echo "srun: unrecognized option '$1'" >&2; exit 1 ;;
  esac
  shift
done
[ "$nodes" = "$tasks" ] || exit 1
pids=()
for ((rank = 0; rank < tasks; rank++)); do
  SLURM_NODEID=$rank SLURM_PROCID=$rank ROLE=$rank "$@" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""


def put(folder: Path, **programs: str) -> dict[str, str]:
    """Programs first on PATH; what the stand-in of vLLM is given goes to files out.RANK."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    return {"PATH": path, "OUT": str(folder / "out"), "VLLM_API_KEY": KEY, "HOME": str(folder)}


def got(folder: Path, rank: int) -> list[str]:
    return (folder / f"out.{rank}").read_text().split("\0")[:-1]


def check_ranks(folder: Path, found: Plan, head: str) -> None:
    wanted = expected(found, head)
    assert [got(folder, rank) for rank in range(len(wanted))] == wanted
    keys = [(folder / f"out.{rank}.key").read_text() for rank in range(len(wanted))]
    assert keys == [KEY] + ["none"] * (len(wanted) - 1)
    assert (folder / "out.0.env").read_text() == "1"


# --- Slurm ---


def test_the_slurm_script_starts_each_rank_as_planned(planned: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    env = put(folder, vllm=VLLM_STAND_IN, scontrol=SCONTROL, srun=SRUN)
    script = tmp_path / "job.sh"
    script.write_text(export(planned, "slurm"))
    env["SLURM_JOB_NODELIST"] = "gpu[07-10]"
    done = subprocess.run(
        ["bash", str(script)], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "http://gpu07:8000/v1" in done.stdout
    assert KEY not in script.read_text()
    check_ranks(folder, planned, "gpu07")


def test_the_slurm_script_asks_for_what_the_plan_takes(planned: Plan) -> None:
    text = export(planned, "slurm")
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    nodes = len(planned.commands)
    assert asked["nodes"] == str(nodes) and asked["ntasks-per-node"] == "1"
    assert int(asked["gpus-per-node"]) * nodes == planned.layout.world


def test_the_slurm_script_wants_a_key(tmp_path: Path) -> None:
    env = put(tmp_path / "bin", vllm=VLLM_STAND_IN, scontrol=SCONTROL, srun=SRUN)
    env |= {"SLURM_JOB_NODELIST": "gpu[07-10]"}
    del env["VLLM_API_KEY"]
    script = tmp_path / "job.sh"
    script.write_text(export(of(*CASES["one node"]), "slurm"))
    done = subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True)
    assert done.returncode and "export a key" in done.stderr
    assert not (tmp_path / "bin/out.0").exists()


@pytest.mark.skipif(which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck_has_nothing_to_say(planned: Plan, tmp_path: Path) -> None:
    run = yaml.safe_load(export(planned, "skypilot"))["run"]
    for name, text in (
        ("slurm.sh", export(planned, "slurm")),
        ("sky.sh", "#!/bin/bash\n" + run),
    ):
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["shellcheck", str(tmp_path / name)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout


# --- SkyPilot ---


def test_the_skypilot_task_starts_each_rank_as_planned(planned: Plan, tmp_path: Path) -> None:
    task = yaml.safe_load(export(planned, "skypilot"))
    nodes = len(planned.commands)
    assert task["num_nodes"] == nodes
    kind, number = task["resources"]["accelerators"].split(":")
    assert kind and int(number) * nodes == planned.layout.world
    assert task["secrets"] == {"VLLM_API_KEY": None}
    folder = tmp_path / "bin"
    env = put(folder, vllm=VLLM_STAND_IN) | {name: str(v) for name, v in task["envs"].items()}
    env["SKYPILOT_NODE_IPS"] = "\n".join(f"10.0.0.{rank + 1}" for rank in range(nodes))
    (tmp_path / "run.sh").write_text(task["run"])
    for rank in range(nodes):
        ranked = env | {"SKYPILOT_NODE_RANK": str(rank), "ROLE": str(rank)}
        subprocess.run(["bash", str(tmp_path / "run.sh")], env=ranked, check=True, timeout=60)
    check_ranks(folder, planned, "10.0.0.1")


def test_sky_serve_asks_for_one_token(planned: Plan) -> None:
    probe = yaml.safe_load(export(planned, "skypilot"))["service"]["readiness_probe"]
    assert probe["path"] == "/v1/chat/completions"
    assert probe["headers"] == {"Authorization": "Bearer $VLLM_API_KEY"}
    assert probe["post_data"]["model"] == planned.model.id
    assert probe["post_data"]["max_tokens"] == 1
    ready = {one.name: one.value for one in planned.environment}
    assert probe["initial_delay_seconds"] > int(ready.get("VLLM_ENGINE_READY_TIMEOUT_S", 600))


# --- Kubernetes ---


def documents(found: Plan) -> dict[str, dict[str, Any]]:
    read = list(yaml.safe_load_all(export(found, "lws")))
    return {document["kind"]: document for document in read}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (one,) = pod["spec"]["containers"]
    assert isinstance(one, dict)
    return one


def test_the_pods_start_each_rank_as_planned(planned: Plan, tmp_path: Path) -> None:
    spec = documents(planned)["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    assert spec["size"] == len(planned.commands)
    folder = tmp_path / "bin"
    base = put(folder, vllm=VLLM_STAND_IN)
    del base["VLLM_API_KEY"]
    for rank in range(spec["size"]):
        pod = container(spec["workerTemplate" if rank else "leaderTemplate"])
        env = base | {"LWS_LEADER_ADDRESS": "k-0.k.ns", "LWS_WORKER_INDEX": str(rank)}
        env["ROLE"] = str(rank)
        for one in pod["env"]:
            secret = one.get("valueFrom", {}).get("secretKeyRef")
            env[one["name"]] = KEY if secret else one.get("value", "10.0.0.9")
        # Kubernetes puts variables in for $(NAME), and nothing else.
        text = pod["args"][0]
        assert not re.search(r"(?<!\$)\$\((?!\()", text)
        subprocess.run([*pod["command"], text], env=env, check=True, timeout=60)
    check_ranks(folder, planned, "k-0.k.ns")


def test_the_set_is_well_formed(planned: Plan) -> None:
    found = documents(planned)
    whole = found["LeaderWorkerSet"]
    assert whole["apiVersion"] == "leaderworkerset.x-k8s.io/v1"
    spec = whole["spec"]["leaderWorkerTemplate"]
    name = whole["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    labels = {"leaderworkerset.sigs.k8s.io/name": name, "role": "leader"}
    service = found["Service"]
    assert service["spec"]["selector"] == labels
    # The controller makes a headless service of the set's own name.
    assert service["metadata"]["name"] != name
    assert spec["leaderTemplate"]["metadata"]["labels"]["role"] == "leader"
    assert "role" not in spec["workerTemplate"].get("metadata", {}).get("labels", {})
    leader, worker = container(spec["leaderTemplate"]), container(spec["workerTemplate"])
    assert leader["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert "readinessProbe" not in worker and "ports" not in worker
    amd = planned.machine.nodes[0].vendor == "amd"
    for pod in (spec["leaderTemplate"]["spec"], spec["workerTemplate"]["spec"]):
        one = container({"spec": pod})
        limits = one["resources"]["limits"]
        per_node = planned.layout.world // len(planned.commands)
        assert limits == {"amd.com/gpu" if amd else "nvidia.com/gpu": per_node}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert mounts["shm"] == "/dev/shm"
        claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
        assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]
        shown = {entry["name"]: entry.get("value") for entry in one["env"]}
        assert shown["HF_HOME"] == mounts["models"]
    size = found["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) << 30 > planned.variant.weight_bytes


# --- all ---


def test_the_image_knows_the_model(planned: Plan) -> None:
    image = yaml.safe_load(export(planned, "skypilot"))["resources"]["image_id"]
    name, _, tag = image.removeprefix("docker:").rpartition(":v")
    amd = planned.machine.nodes[0].vendor == "amd"
    assert name == ("vllm/vllm-openai-rocm" if amd else "vllm/vllm-openai")
    least = ".".join(planned.variant.min_vllm.split(".")[:2])
    assert version(".".join(tag.split(".")[:2])) >= version(least)


def test_an_image_new_enough() -> None:
    found = of(*CASES["one node"])
    newer = replace(found, variant=replace(found.variant, min_vllm="0.99.1"))
    assert "vllm/vllm-openai:v0.99.1" in export(newer, "lws")
    assert f":v{VLLM}" in export(found, "lws")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["My Model/2", "--x", "a: b\n- c", "ü", "x" * 90])
def test_any_name_is_made_one(kind: str, name: str) -> None:
    text = export(of(*CASES["one node"]), kind, name=name)
    found = re.search(r"(?:^name: |^  name: |job-name=)(\S+)$", text, re.MULTILINE)
    assert found and re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?", found[1])


def test_what_can_not_be_said() -> None:
    found = of(*CASES["one node"])
    with pytest.raises(CannotExport, match="none of lws, slurm, skypilot"):
        export(found, "helm")
    mixed = of("qwen3.6-27b", "1xH100+1xH200", 1, Wish())
    with pytest.raises(CannotExport, match="mixes H100, H200"):
        export(mixed, "slurm")
    with pytest.raises(CannotExport, match="without GPUs"):
        export(replace(found, machine=Machine((), described=True)), "lws")


@pytest.mark.parametrize("example", EXAMPLES, ids=[one.file for one in EXAMPLES])
def test_the_examples_are_what_the_planner_makes(example: Any) -> None:
    assert (FOLDER / example.file).read_text(encoding="utf-8") == example.text(), (
        "changed on purpose? python -m tests.support.serve_examples"
    )
    assert example.command in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert not set(os.listdir(FOLDER)) - {"README.md", *(one.file for one in EXAMPLES)}
    if example.kind == "slurm":
        subprocess.run(["bash", "-n", str(FOLDER / example.file)], check=True)
        assert os.access(FOLDER / example.file, os.X_OK)


def test_quoting_is_the_shells() -> None:
    found = of(*CASES["JSON in an option"])
    (value,) = [one.value for one in found.flags if one.name == "--attention-config"]
    assert value and quote(value) in export(found, "slurm")
