# shellcheck shell=bash
# What run_local.sh and queue.sh, which source this file, share: the command line of Kaldi's
# run.pl, and the names of logs.
# shellcheck disable=SC2034 # the variables are for those scripts

name=${0##*/}
tail_lines=20

fail() {
  echo "$name: $1" >&2
  exit 2
}

# parse_jobs [--OPTION VALUE]... [JOB=1:N] LOG COMMAND...: set job_name, first, last, log and
# command; call set_option OPTION VALUE for each option. As with run.pl, the options may also come
# after JOB=1:N.
parse_jobs() {
  job_name='' first=1 last=1
  while true; do
    if [[ ${1:-} == -* ]]; then
      [ $# -ge 2 ] || fail "$1: the value is missing"
      set_option "$1" "$2"
      shift 2
    elif [[ -z $job_name && ${1:-} =~ ^([A-Za-z_][A-Za-z0-9_]*)=([0-9]+)(:([0-9]+))?$ ]]; then
      job_name=${BASH_REMATCH[1]}
      first=$((10#${BASH_REMATCH[2]})) # decimal, also with zeros in front
      last=$((10#${BASH_REMATCH[4]:-$first}))
      [ "$first" -le "$last" ] || fail "$1: the first job comes after the last"
      shift
    else
      break
    fi
  done
  [ $# -ge 2 ] || fail "expected [options] [JOB=1:N] LOG COMMAND..., found: $*"
  log=$1
  command=("${@:2}")
  if [ "$first" -ne "$last" ] && [[ $log != *"$job_name"* ]]; then
    fail "$log: several jobs would write into one log; put $job_name into its name"
  fi
}

numbered() { # numbered TEXT JOB: print the text with the number of the job in it
  if [ -n "$job_name" ]; then printf '%s' "${1//$job_name/$2}"; else printf '%s' "$1"; fi
}
