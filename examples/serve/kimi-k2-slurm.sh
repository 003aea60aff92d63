#!/bin/bash
#SBATCH --job-name=kimi-k2-instruct
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#
# Kimi K2 Instruct on 2 nodes of 8 H200: tensor parallel 8, pipeline parallel 2.
# Context 131,072 tokens. Made by kimi serve plan --export.
#
# vLLM's program must be on PATH on every node, and the weights or their download at a path that
# all reach (HF_HOME). Start it with a key of your own:
#
#   export VLLM_API_KEY=$(openssl rand -hex 24)
#   sbatch --time=1-00:00:00 kimi-k2-instruct-slurm.sh
#
# Where the nodes have several networks, export GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME too.
set -euo pipefail

: "${VLLM_API_KEY:?export a key for the server before sbatch}"
export VLLM_API_KEY
export VLLM_ENGINE_READY_TIMEOUT_S=2400  # 1,030 GB don't load in vLLM's ten minutes
export VLLM_NO_USAGE_STATS=1  # vLLM reports home otherwise

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MASTER_ADDR

serve() {
  local command=(
    vllm serve moonshotai/Kimi-K2-Instruct
    --host 0.0.0.0
    --port 8000
    --served-model-name kimi-k2-instruct
    --trust-remote-code
    --tensor-parallel-size 8
    --pipeline-parallel-size 2
    --max-model-len 131072
    --gpu-memory-utilization 0.92
    --enable-auto-tool-choice
    --tool-call-parser kimi_k2
    --enable-prompt-tokens-details
    --nnodes 2
    --node-rank "$SLURM_NODEID"
    --master-addr "$MASTER_ADDR"
    --master-port 29501
  )
  if [ "$SLURM_NODEID" -ne 0 ]; then
    command+=(--headless)
    unset VLLM_API_KEY
  fi
  exec "${command[@]}"
}

echo "when it is up: http://$MASTER_ADDR:8000/v1, model kimi-k2-instruct"
srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpu-bind=none \
  --kill-on-bad-exit=1 bash -c "$(declare -f serve); serve"
