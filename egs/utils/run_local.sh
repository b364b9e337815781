#!/usr/bin/env bash
# Run a command, or an array of them side by side, on this machine. Takes the place of Kaldi's
# run.pl and is called like it, so that queue.pl or slurm.pl can take its place in cmd.sh:
#
#   utils/run_local.sh [options] [JOB=1:N] LOG COMMAND [ARGUMENT...]
#   utils/run_local.sh JOB=1:4 exp/log/decode.JOB.log asr decode --data data/split4/JOB ...
#
# JOB stands for the number of the job in LOG and in the command; any other name will do.
# The command is run as it stands, without a shell: for a pipe write bash -c '... | ...'.
#
#   --max-jobs-run N   at most N jobs at a time (default: all)
#   --show true        print the output of a single job while it goes into the log
# Other options and their values (--mem 4G, --gpu 1) are for queues and are skipped.
#
# Exit code: 0 if every job ended with 0, otherwise 1 and the end of a log is shown.
set -uo pipefail

name=${0##*/}
max_jobs_run=0
show=false
tail_lines=20

fail() {
  echo "$name: $1" >&2
  exit 2
}

while [[ ${1:-} == -* ]]; do
  [ $# -ge 2 ] || fail "$1: the value is missing"
  case "$1" in
    --max-jobs-run) max_jobs_run=$2 ;;
    --show) show=$2 ;;
  esac
  shift 2
done

job_name=
first=1
last=1
if [[ ${1:-} =~ ^([A-Za-z_][A-Za-z0-9_]*)=([0-9]+)(:([0-9]+))?$ ]]; then
  job_name=${BASH_REMATCH[1]}
  first=${BASH_REMATCH[2]}
  last=${BASH_REMATCH[4]:-$first}
  [ "$first" -le "$last" ] || fail "$1: the first job comes after the last"
  shift
fi
[ $# -ge 2 ] || fail "expected [options] [JOB=1:N] LOG COMMAND..., found: $*"
log=$1
shift
[[ $max_jobs_run =~ ^[0-9]+$ ]] || fail "--max-jobs-run $max_jobs_run: expected a number"
if [ "$first" -ne "$last" ] && [[ $log != *"$job_name"* ]]; then
  fail "$log: several jobs would write into one log; put $job_name into its name"
fi

numbered() { # numbered TEXT JOB: the text with the job's number in it
  if [ -n "$job_name" ]; then printf '%s' "${1//$job_name/$2}"; else printf '%s' "$1"; fi
}

run_job() { # run_job JOB COMMAND...: exit code of the command
  local job=$1 file argument code start=$SECONDS
  local command=()
  shift
  for argument in "$@"; do command+=("$(numbered "$argument" "$job")"); done
  file=$(numbered "$log" "$job")
  mkdir -p "$(dirname "$file")" || return 1
  {
    printf '#'
    printf ' %q' "${command[@]}"
    printf '\n# Started at %s\n#\n' "$(date)"
  } >"$file" || return 1
  if [ "$show" = true ] && [ "$first" -eq "$last" ]; then
    "${command[@]}" 2>&1 </dev/null | tee -ia "$file"
    code=${PIPESTATUS[0]}
  else
    "${command[@]}" >>"$file" 2>&1 </dev/null
    code=$?
  fi
  {
    echo "# Accounting: time=$((SECONDS - start)) threads=1"
    echo "# Ended (code $code) at $(date), elapsed time $((SECONDS - start)) seconds"
  } >>"$file"
  return "$code"
}

# Every job has a process group of its own (set -m), so that a signal reaches all of it and
# nothing else. Ctrl-C lets a job that knows how to save its state do so; a second one insists.
pids=()
failed=()
interrupted=false
signalled=false
# shellcheck disable=SC2317 # called by the traps
forward() { # forward SIGNAL
  local pid
  interrupted=true
  signalled=true
  for pid in "${pids[@]}"; do kill "-$1" -- "-$pid" 2>/dev/null; done
}
trap 'forward INT' INT
trap 'forward TERM' TERM HUP
set -m

wait_for() { # wait_for JOB
  local code
  while true; do
    signalled=false
    wait "${pids[$1]}" 2>/dev/null
    code=$?
    $signalled || break # otherwise it was the signal that ended the waiting
  done
  [ $code -eq 0 ] || failed+=("$1")
}

for ((job = first; job <= last; job++)); do
  if [ "$max_jobs_run" -gt 0 ] && [ "$((job - first))" -ge "$max_jobs_run" ]; then
    wait_for "$((job - max_jobs_run))"
  fi
  $interrupted && break
  run_job "$job" "$@" &
  pids[job]=$!
done
started=$((last - first + 1))
waiting=$first
if [ "$max_jobs_run" -gt 0 ] && [ "$started" -gt "$max_jobs_run" ]; then
  waiting=$((last - max_jobs_run + 1))
fi
for ((job = waiting; job <= last; job++)); do
  [ -z "${pids[job]:-}" ] || wait_for "$job"
done

if $interrupted; then
  echo "$name: interrupted, log is in $log" >&2
  exit 130
fi
[ ${#failed[@]} -gt 0 ] || exit 0
broken=$(numbered "$log" "${failed[0]}")
{
  echo "$name: ${#failed[@]} / $started failed, log is in ${log//${job_name:-$'\n'}/*}"
  if [ "$show" != true ] || [ "$started" -gt 1 ]; then
    echo "$name: the end of $broken:"
    tail -n "$tail_lines" "$broken" | sed 's/^/  /'
  fi
} >&2
exit 1
