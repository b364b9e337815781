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

header() { # header COMMAND...: the head of a log
  printf '#'
  printf ' %q' "$@"
  printf '\n# Started at %s\n#\n' "$(date)"
}

footer() { # footer CODE SECONDS: the end of a log
  echo "# Accounting: time=$2 threads=1"
  echo "# Ended (code $1) at $(date), elapsed time $2 seconds"
}

run_job() { # run_job JOB COMMAND...: exit code of the command
  local job=$1 file argument code start=$SECONDS
  local command=()
  shift
  for argument in "$@"; do command+=("$(numbered "$argument" "$job")"); done
  file=$(numbered "$log" "$job")
  mkdir -p "$(dirname "$file")" && header "${command[@]}" >"$file" || return 1
  execute "$file" "${command[@]}"
  code=$?
  footer $code $((SECONDS - start)) >>"$file"
  return $code
}

# A single job is a group of its own, to which Ctrl-C is passed on as it is: a training saves its
# state. Jobs of an array run where bash makes them deaf to Ctrl-C: they get it as TERM.
execute() { # execute LOG COMMAND...
  local file=$1
  shift
  if [ "$first" -lt "$last" ]; then
    in_background "$@" >>"$file" 2>&1 </dev/null
  elif [ "$show" = true ]; then
    shown "$@"
  else
    alone "$@" >>"$file" 2>&1 </dev/null
  fi
}

shown() { # shown COMMAND...: its output goes to the screen as well as into the log
  local folder code reader
  folder=$(mktemp -d) && mkfifo "$folder/output" || return 1
  # the log is written to its end, also when the screen is gone
  (trap '' INT TERM HUP PIPE && exec tee -a "$file" 2>/dev/null) <"$folder/output" &
  reader=$!
  alone "$@" >"$folder/output" 2>&1 </dev/null
  code=$?
  outlive $reader
  rm -r "$folder"
  return $code
}

# Signals may come at any moment: before the child is there, and after it has ended. Those that
# came before are passed on once it is there, each once: a second Ctrl-C would be one too many.
child=
pending=      # a signal
of_group=     # "-": for the child's whole group, empty: for the child alone
signalled=false

# shellcheck disable=SC2317,SC2329 # called by the traps
pass_on() { # pass_on SIGNAL OF_GROUP: to the child
  interrupted=true
  signalled=true
  pending=$1 of_group=$2
  [ -z "$child" ] || deliver
}

deliver() {
  [ -z "$pending" ] || kill -s "$pending" -- "$of_group$child" 2>/dev/null
  pending=
}

alone() { # alone COMMAND...: exit code of the command, also after a signal to it
  trap 'pass_on INT -' INT # Ctrl-C is for all of its group, TERM for it alone
  trap 'pass_on TERM ""' TERM HUP
  set -m
  "$@" &
  child=$!
  set +m
  deliver
  outlive "$child"
}

in_background() { # in_background COMMAND...: exit code of the command, also after a TERM to it
  trap 'pass_on TERM ""' TERM
  trap '' INT # while it waits, bash would listen to Ctrl-C all the same
  "$@" &
  child=$!
  deliver
  outlive "$child"
}

outlive() { # outlive CHILD: wait for it to the end, signals or not; its exit code
  local code
  while true; do
    signalled=false
    wait "$1"
    code=$?
    $signalled || return $code # otherwise it was the signal that ended the waiting
  done
}

pids=()
failed=()
interrupted=false
# shellcheck disable=SC2317,SC2329 # called by the traps
stop() {
  interrupted=true
  signalled=true
  [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null
}
trap stop INT TERM HUP

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

started=$((last - first + 1))
if [ $started -eq 1 ]; then
  run_job "$first" "$@" || failed+=("$first")
else
  for ((job = first; job <= last; job++)); do
    if [ "$max_jobs_run" -gt 0 ] && [ $((job - first)) -ge "$max_jobs_run" ]; then
      wait_for $((job - max_jobs_run))
    fi
    $interrupted && break
    run_job "$job" "$@" &
    pids[job]=$!
  done
  unwaited=$first
  if [ "$max_jobs_run" -gt 0 ] && [ $started -gt "$max_jobs_run" ]; then
    unwaited=$((last - max_jobs_run + 1))
  fi
  for ((job = unwaited; job <= last; job++)); do
    [ -z "${pids[job]:-}" ] || wait_for "$job"
  done
fi

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
