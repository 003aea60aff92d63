"""A plan as a batch script for Slurm (sbatch(1), srun(1))."""

from __future__ import annotations

from shlex import quote

from kimi_cli.serve.exports import Sheet, bash_function, comment

_WHOLE_NODE = 8


def write(sheet: Sheet) -> str:
    """The script, for bash."""
    whole = sheet.nodes > 1 or sheet.per_node >= _WHOLE_NODE
    size = "--exclusive\n#SBATCH --mem=0" if whole else "--cpus-per-gpu=8"
    exports = "".join(
        f"export {one.name}={quote(one.value)}  # {one.why}\n" for one in sheet.environment
    )
    return f"""#!/bin/bash
#SBATCH --job-name={sheet.name}
#SBATCH --nodes={sheet.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={sheet.per_node}
#SBATCH {size}
#
{comment(sheet.about())}#
# vLLM's program must be on PATH on every node, and the weights or their download at a path that
# all reach (HF_HOME). Start it with a key of your own:
#
#   export VLLM_API_KEY=$(openssl rand -hex 24)
#   sbatch --time=1-00:00:00 {sheet.name}-slurm.sh
#
# Where the nodes have several networks, export GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME too.
set -euo pipefail

: "${{VLLM_API_KEY:?export a key for the server before sbatch}}"
export VLLM_API_KEY
{exports}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MASTER_ADDR

{bash_function(sheet, "MASTER_ADDR", "SLURM_NODEID")}
echo "when it is up: http://$MASTER_ADDR:{sheet.port}/v1, model {sheet.served_name}"
srun --nodes={sheet.nodes} --ntasks={sheet.nodes} --ntasks-per-node=1 --cpu-bind=none \\
  --kill-on-bad-exit=1 bash -c "$(declare -f serve); serve"
"""
