#!/usr/bin/env bash
# Run a command, or an array of commands in parallel, on this machine. It replaces Kaldi's run.pl
# and is called like it, so that queue.pl or slurm.pl can replace it in cmd.sh:
#
#   utils/run_local.sh [options] [JOB=1:N] LOG COMMAND [ARGUMENT...]
#   utils/run_local.sh JOB=1:4 exp/log/decode.JOB.log asr decode ... --part JOB/4
#
# JOB stands for the number of the job in LOG and in the command; any other name will do.
# The command runs without a shell: for a pipe write bash -c '... | ...'.
#
#   --max-jobs-run N   at most N jobs at a time (default: all)
#   --show true        print the output of a single job while it goes into the log
# Other options and their values (--mem 4G, --gpu 1) are for queues and are skipped.
#
# Exit code: 0 if every job ended with 0; otherwise 1, and the end of a log is shown.
set -uo pipefail

# shellcheck source=jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"
max_jobs_run=0
show=false

# shellcheck disable=SC2317,SC2329 # called by parse_jobs
set_option() { # set_option OPTION VALUE
  case "$1" in
    --max-jobs-run) max_jobs_run=$2 ;;
    --show) show=$2 ;;
  esac
}

parse_jobs "$@"
set -- "${command[@]}"
[[ $max_jobs_run =~ ^[0-9]+$ ]] || fail "--max-jobs-run $max_jobs_run: expected a number"
[[ $show =~ ^(true|false)$ ]] || fail "--show $show: expected true or false"

header() { # header COMMAND...: print the head of a log
  printf '#'
  printf ' %q' "$@"
  printf '\n# Started at %s\n#\n' "$(date)"
}

footer() { # footer CODE SECONDS: print the end of a log
  echo "# Accounting: time=$2 threads=1"
  echo "# Ended (code $1) at $(date), elapsed time $2 seconds"
}

run_job() { # run_job JOB COMMAND...: run a job, and return the exit code of its command
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

# A single job is a process group of its own and receives Ctrl-C, so that a training saves its
# state. Bash makes the jobs of an array ignore Ctrl-C; they receive TERM instead.
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

shown() { # shown COMMAND...: send its output to the screen as well as to the log
  local folder code reader
  folder=$(mktemp -d) && mkfifo "$folder/output" || return 1
  # the log is written to its end even if the screen has gone
  (trap '' INT TERM HUP PIPE && exec tee -a "$file" 2>/dev/null) <"$folder/output" &
  reader=$!
  alone "$@" >"$folder/output" 2>&1 </dev/null
  code=$?
  outlive $reader
  rm -r "$folder"
  return $code
}

# Signals can arrive at any moment: before the child has started, and after it has ended. Earlier
# ones are passed on when it has started, each only once: a second Ctrl-C would stop it at once.
child=
pending=      # a signal that the child has not received yet
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

alone() { # alone COMMAND...: return the exit code of the command, even after a signal
  trap 'pass_on INT -' INT # Ctrl-C goes to the whole group, TERM only to the child
  trap 'pass_on TERM ""' TERM HUP
  set -m
  "$@" &
  child=$!
  set +m
  deliver
  outlive "$child"
}

in_background() { # in_background COMMAND...: return the exit code of the command, even after TERM
  trap 'pass_on TERM ""' TERM
  trap '' INT # bash would react to Ctrl-C while it waits
  "$@" &
  child=$!
  deliver
  outlive "$child"
}

outlive() { # outlive CHILD: wait until it ends, despite signals; return its exit code
  local code
  while true; do
    signalled=false
    wait "$1"
    code=$?
    $signalled || return $code # otherwise a signal interrupted the wait
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
    $signalled || break # otherwise a signal interrupted the wait
  done
  [ $code -eq 0 ] || failed+=("$1")
}

started=$((last - first + 1))
if [ $started -eq 1 ]; then
  run_job "$first" "$@" || failed+=("$first")
else
  unwaited=$first
  for ((job = first; job <= last; job++)); do
    if [ "$max_jobs_run" -gt 0 ] && [ $((job - unwaited)) -ge "$max_jobs_run" ]; then
      wait_for $unwaited
      unwaited=$((unwaited + 1))
    fi
    $interrupted && break
    run_job "$job" "$@" &
    pids[job]=$!
  done
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
