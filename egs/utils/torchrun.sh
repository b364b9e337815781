#!/usr/bin/env bash
# Train with several processes, on this machine or on all nodes of a Slurm job:
#
#   utils/torchrun.sh PROCESSES NODES asr train ...
#
# PROCESSES is their number on each node, mostly that of its GPUs. When a process dies, torchrun starts
# all of them again from the last checkpoint, up to 3 times, also on fewer nodes.
set -euo pipefail

processes=$1
nodes=$2
shift 3
# Slurm sends USR1 before its time limit; torchrun passes it on, and the training saves and stops.
run=(python -m torch.distributed.run --nproc-per-node "$processes" --max-restarts 3
  --signals-to-handle "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
# Every start makes its own store, or the training would end with the node that made the first one.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
if [ "$nodes" -eq 1 ]; then
  exec "${run[@]}" --standalone -m asr "$@"
fi
if [ "${SLURM_JOB_NUM_NODES:-1}" -ne "$nodes" ]; then
  echo "${0##*/}: $nodes nodes: only slurm.sh starts a job on several nodes (see cmd.sh); without" \
    "Slurm, start torchrun on each of them as in egs/README.md" >&2
  exit 2
fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | grep -o 'NodeAddr=[^ ]*')
exec srun "${run[@]}" --nnodes "1:$nodes" --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d \
  --rdzv-endpoint "${address#*=}:$((20000 + SLURM_JOB_ID % 10000))" -m asr "$@"
