# shellcheck shell=bash
# Run a command, or an array of commands, as jobs of a cluster. slurm.sh and sge.sh source this file
# after they have defined, for their queue:
#
#   submit JOBS SCRIPT   submit the jobs "1,3-7" of an array that run a script; print its id
#   in_queue ID          is any job of the array still waiting or running?
#   cancel ID            end the jobs of the array
#
# Every job runs utils/run_local.sh in the folder of the recipe, which must be on a file system that
# all nodes share, and leaves its exit code in a file beside the log, in the folder q.
# shellcheck disable=SC2034 # the options are for submit
set -uo pipefail

# shellcheck source=jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"
mem='' time='' partition='' options=''
gpu=0 num_threads=1 num_nodes=1 max_jobs_run=0
warn=120
grace=30
requeue=false

# shellcheck disable=SC2317,SC2329 # called by parse_jobs
set_option() { # set_option OPTION VALUE
  local option=${1#--}
  option=${option//-/_}
  case $option in
    gpu | num_threads | num_nodes | max_jobs_run | warn | grace)
      [[ $2 =~ ^[0-9]+$ ]] || fail "$1 $2: expected a number"
      printf -v "$option" '%s' "$2"
      ;;
    requeue)
      [[ $2 =~ ^(true|false)$ ]] || fail "$1 $2: expected true or false"
      requeue=$2
      ;;
    mem | time | partition | options) printf -v "$option" '%s' "$2" ;;
    *) fail "$1: no such option; the comment at the top of $0 lists them" ;;
  esac
}

parse_jobs "$@"
[ "$first" -ge 1 ] || fail "$job_name=$first:$last: expected numbers from 1"
set -- "${command[@]}"

q=$(dirname "$log")/q
q=${q//"${job_name:-$'\n'}"/all} # JOB may also be in the name of the folder
base=$q/$(basename "$log")
mkdir -p "$q" || fail "$q: cannot be made"

# write_script COMMAND...: write the script of all jobs. A warning before the time limit (USR1, USR2)
# ends the command with TERM, on which a training saves its state.
write_script() {
  local command
  printf -v command ' %q' "$@"
  cat <<EOF
#!/usr/bin/env bash
cd $(printf '%q' "$PWD") || exit
[ ! -f path.sh ] || . ./path.sh
job=\${SLURM_ARRAY_TASK_ID:-\${SGE_TASK_ID:-$first}}
warned=false child=
end() { [ -z "\$child" ] || kill -s TERM "\$child" 2>/dev/null; }
trap 'warned=true; end' USR1 USR2
trap end TERM
(
  trap '' USR1 USR2 # Grid Engine sends them to the whole group
  exec utils/run_local.sh ${job_name:+$job_name="\$job" }$(printf '%q' "$log")$command
) &
child=\$!
! \$warned || end
while :; do
  wait \$child
  code=\$?
  kill -0 \$child 2>/dev/null || break # otherwise a signal has ended the wait
done
[ \$code -eq 0 ] || ! \$warned || code=warned
echo "\$code" >$(printf '%q' "$base").\$job.part
mv $(printf '%q' "$base").\$job.part $(printf '%q' "$base").\$job.code
EOF
}

id=
# shellcheck disable=SC2317,SC2329 # called by the trap
stop() {
  trap '' INT TERM HUP
  [ -z "$id" ] || cancel "$id"
  grace=1
  [ -z "$id" ] || await
  echo "$name: interrupted, log is in $log" >&2
  exit 130
}

await() { # await: until every job has left its exit code, or is no longer in the queue
  local job gone_s=0 since_s=$SECONDS delay=0.2
  while true; do
    for job in $jobs; do
      [ -f "$base.$job.code" ] || break
    done
    [ ! -f "$base.$job.code" ] || return
    if in_queue "$id"; then since_s=$SECONDS; else gone_s=$((SECONDS - since_s)); fi
    [ $gone_s -lt "$grace" ] || return # network file systems may show a file late
    sleep $delay
    [ $SECONDS -lt 5 ] || delay=3
  done
}

run_jobs() { # run_jobs: submit $jobs and wait for them
  local job list
  for job in $jobs; do rm -f "$base.$job.code" "$base.$job.out"; done
  list="$first-$last"
  [ "$(wc -w <<<"$jobs")" -eq $((last - first + 1)) ] || list=$(tr -s ' \n' , <<<"$jobs")
  id=$(submit "${list%,}" "$base.sh") || fail "the jobs of $log cannot be submitted"
  await
}

jobs=$(seq -s ' ' "$first" "$last")
write_script "$@" >"$base.sh" || fail "$base.sh: cannot be written"
trap stop INT TERM HUP
run_jobs
while $requeue; do
  warned=()
  for job in $jobs; do
    [ ! -f "$base.$job.code" ] || [ "$(<"$base.$job.code")" != warned ] || warned+=("$job")
  done
  [ ${#warned[@]} -gt 0 ] || break
  echo "$name: stopped before the time limit, submitted again: ${warned[*]/#/job }" >&2
  jobs=${warned[*]}
  run_jobs
done
trap - INT TERM HUP

failed=()
for ((job = first; job <= last; job++)); do
  [ -f "$base.$job.code" ] && [ "$(<"$base.$job.code")" = 0 ] || failed+=("$job")
done
[ ${#failed[@]} -gt 0 ] || exit 0

reason() { # reason JOB: print why a job failed
  if [ ! -f "$base.$1.code" ]; then
    echo "ended without an exit code (memory, time limit or node); see $base.$1.out"
  elif [ "$(<"$base.$1.code")" = warned ]; then
    echo "stopped before its time limit; --requeue true goes on by itself"
  else
    echo "failed"
  fi
}
{
  echo "$name: ${#failed[@]} / $((last - first + 1)) failed:"
  for job in "${failed[@]}"; do echo "  $(numbered "$log" "$job"): $(reason "$job")"; done
  job=${failed[0]}
  shown=$(numbered "$log" "$job")
  [ -f "$base.$job.code" ] || shown=$base.$job.out
  if [ -f "$shown" ]; then
    echo "$name: the end of $shown:"
    tail -n "$tail_lines" "$shown" | sed 's/^/  /'
  fi
} >&2
exit 1
