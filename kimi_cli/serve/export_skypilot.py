"""A plan as a task for SkyPilot, good for ``sky launch`` and ``sky serve`` (SkyPilot's
documentation, "Task YAML" and "Service YAML")."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps

from kimi_cli.serve.exports import Sheet, bash_function, comment, indented

_NAMES = {
    "H100 80GB": "H100",
    "A100": "A100-80GB",
    "A100 80GB": "A100-80GB",
    "A100 40GB": "A100",
    "V100 32GB": "V100-32GB",
    "RTX A6000": "A6000",
}
"""Those that SkyPilot calls otherwise than by the plain name."""


def write(sheet: Sheet) -> str:
    """The task in YAML."""
    shown = indented(
        "".join(f"{one.name}: {dumps(one.value)}  # {one.why}\n" for one in sheet.environment), 2
    )
    run = indented(
        'MASTER_ADDR=$(echo "$SKYPILOT_NODE_IPS" | sed -n 1p)\n'
        'VLLM_HOST_IP=$(echo "$SKYPILOT_NODE_IPS" | sed -n "$((SKYPILOT_NODE_RANK + 1))p")\n'
        "export MASTER_ADDR VLLM_HOST_IP\n\n"
        + bash_function(sheet, "MASTER_ADDR", "SKYPILOT_NODE_RANK")
        + "serve\n",
        2,
    )
    return f"""{comment(_heading(sheet))}name: {sheet.name}

resources:
  accelerators: {dumps(f"{_accelerator(sheet)}:{sheet.per_node}")}
  image_id: docker:{sheet.image}
  disk_size: {sheet.weights_gib + 100}  # GB: the weights and the image
  ports: {sheet.port}
{"  network_tier: best" + chr(10) if sheet.nodes > 1 else ""}
num_nodes: {sheet.nodes}

secrets:
  VLLM_API_KEY: null  # given on the command line

envs:
{shown}
run: |
{run}
service:
  replicas: 1
  readiness_probe:
    # Ready is what answers: a model that loads, and one that is stuck, do not.
    path: /v1/chat/completions
    headers:
      Authorization: Bearer $VLLM_API_KEY
    post_data:
      model: {dumps(sheet.served_name)}
      messages:
        - role: user
          content: Hello
      max_tokens: 1
    initial_delay_seconds: {2 * sheet.load_seconds}
    timeout_seconds: 60
"""


def _accelerator(sheet: Sheet) -> str:
    return _NAMES.get(sheet.gpu, sheet.gpu.replace(" ", ""))


def _heading(sheet: Sheet) -> Iterator[str]:
    yield from sheet.about()
    yield ""
    yield "  export VLLM_API_KEY=$(openssl rand -hex 24)"
    yield f"  sky launch {sheet.name}-skypilot.yaml --secret VLLM_API_KEY"
    yield f"  sky serve up {sheet.name}-skypilot.yaml --secret VLLM_API_KEY"
    yield ""
    yield "Whether a cloud of yours has these GPUs: sky show-gpus " + _accelerator(sheet)
