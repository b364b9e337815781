#!/usr/bin/env bash
# Run a command, or an array of commands, through Slurm; called like utils/run_local.sh and Kaldi's
# slurm.pl, for cmd.sh:
#
#   utils/slurm.sh [options] [JOB=1:N] LOG COMMAND [ARGUMENT...]
#   utils/slurm.sh --mem 8G JOB=1:4 exp/log/decode.JOB.log asr decode --part JOB/4 ...
#
#   --mem 8G           memory of a node
#   --num-threads N    cores of a job (default: 1)
#   --gpu N            GPUs of a node (default: 0)
#   --num-nodes N      nodes of a job; utils/torchrun.sh starts a training on all of them
#   --time H:M:S       time limit
#   --warn S           stop the command S seconds before the limit, so that it saves (default: 120)
#   --requeue true     submit jobs again that were stopped so
#   --partition NAME
#   --max-jobs-run N   at most N jobs at a time (default: all)
#   --options '...'    further options of sbatch
#   --grace S          seconds to wait for the exit code of a job that has left the queue
#
# Exit code: 0 if every job ended with 0; otherwise 1, and the failed jobs are named with their logs.
# shellcheck disable=SC2154,SC2317,SC2329 # the options and callers are in queue.sh

submit() {
  local limit=$1
  [ "$max_jobs_run" -eq 0 ] || limit=$1%$max_jobs_run
  # shellcheck disable=SC2046,SC2086 # lists of options
  sbatch --parsable --job-name="$(basename "$log")" --array="$limit" --output="$base.%a.out" \
    --cpus-per-task="$num_threads" --nodes="$num_nodes" --ntasks-per-node=1 --no-requeue \
    --open-mode=append --signal=B:USR1@"$warn" ${mem:+--mem=$mem} ${time:+--time=$time} \
    ${partition:+--partition=$partition} $([ "$gpu" -eq 0 ] || echo "--gres=gpu:$gpu") \
    $options "$2" </dev/null | cut -d ';' -f 1
}

in_queue() { # a controller that does not answer has not lost the job
  local found
  found=$(squeue --noheader --jobs="$1" 2>&1) || [[ $found == *"Invalid job id"* ]] || return 0
  [[ -n $found && $found != *"Invalid job id"* ]]
}

cancel() { scancel "$1"; }

# shellcheck source=queue.sh
. "${0%/*}/queue.sh"
