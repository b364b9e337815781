#!/usr/bin/env bash
# Run a command, or an array of commands, through Sun Grid Engine and its successors; called like
# utils/run_local.sh and Kaldi's queue.pl, for cmd.sh:
#
#   utils/sge.sh [options] [JOB=1:N] LOG COMMAND [ARGUMENT...]
#
#   --mem 8G           memory (mem_free)
#   --num-threads N    slots of the parallel environment smp
#   --gpu N            GPUs (resource gpu)
#   --time H:M:S       time limit (h_rt)
#   --warn S           stop the command S seconds before the limit, so that it saves (default: 120)
#   --requeue true     submit jobs again that were stopped so
#   --partition NAME   queue
#   --max-jobs-run N   at most N jobs at a time (default: all)
#   --options '...'    further options of qsub
#   --grace S          seconds to wait for the exit code of a job that has left the queue
#
# Exit code: 0 if every job ended with 0; otherwise 1, and the failed jobs are named with their logs.
# shellcheck disable=SC2154,SC2317,SC2329 # the options and callers are in queue.sh

submit() { # arrays of SGE have no gaps: jobs that are needed again are submitted one by one
  local each id ids=()
  for each in ${1//,/ }; do
    id=$(submit_range "$each" "$2") || return 1
    ids+=("${id%%.*}")
  done
  printf '%s\n' "${ids[*]}"
}

submit_range() {
  local soft hours minutes seconds resources=$options
  if [ -n "$time" ]; then
    [[ $time =~ ^[0-9]+:[0-9]+:[0-9]+$ ]] || fail "--time $time: expected H:M:S"
    IFS=: read -r hours minutes seconds <<<"$time"
    soft=$((10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds - warn))
    [ $soft -gt 0 ] || fail "--time $time: shorter than --warn $warn, in seconds"
    resources+=" -l h_rt=$time -l s_rt=$soft" # s_rt sends USR1
  fi
  [ "$num_nodes" -eq 1 ] || fail "--num-nodes $num_nodes: only slurm.sh runs a job on several nodes"
  [ "$num_threads" -eq 1 ] || resources+=" -pe smp $num_threads"
  [ "$gpu" -eq 0 ] || resources+=" -l gpu=$gpu"
  [ "$max_jobs_run" -eq 0 ] || resources+=" -tc $max_jobs_run"
  # shellcheck disable=SC2086 # a list of options
  qsub -terse -V -cwd -S /bin/bash -notify -j y -o "$base.\$TASK_ID.out" -N "q$(basename "$log")" \
    -t "$1" ${mem:+-l mem_free=$mem} ${partition:+-q $partition} $resources "$2" </dev/null
}

in_queue() {
  local each
  for each in $1; do
    if qstat -j "$each" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

# shellcheck disable=SC2086 # one or more ids
cancel() { qdel $1 >/dev/null; }

# shellcheck source=queue.sh
. "${0%/*}/queue.sh"
