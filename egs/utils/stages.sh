# shellcheck shell=bash
# Stages of a recipe: they are numbered, skipped when done, and report which one failed.
# Source this file above the option parser, while "$@" still holds the command line:
#
#   . utils/stages.sh
#   . utils/parse_options.sh
#   ...
#   if stage_begin 4 "training" $train_config data/train seed=$seed; then
#     $train_cmd $dir/log/train.log asr train ...
#     stage_done $dir/final.safetensors
#   fi
#
# A stage is skipped if the inputs given to stage_begin and the outputs given to stage_done have
# not changed since it last ended: files and folders are compared by content (large files and
# audio by size and time), name=value words by value. The records are in $stage_dir. This file
# reads the variables stage, stop_stage, force, stage_dir and caller_dir (the folder in which the
# user started the recipe).
# shellcheck disable=SC2154 # stage, stop_stage, force

: "${stage_dir:=exp/.stages}"
stage_command=("$0" "$@")
[[ $0 == */* ]] || stage_command[0]=./$0 # bash run.sh
caller_dir=${caller_dir:-$PWD}
stage_number=
stage_title=
stage_record=
# shellcheck disable=SC2034 # for the recipe
stage_changed=false # this stage was begun before with other inputs, or --force runs it again

_signature() { python -I utils/signature.py "$@"; }

# bad_usage MESSAGE...: report an error in the command line, and exit.
bad_usage() {
  printf '%s\n' "${stage_command[0]}: $1" "${@:2}" >&2
  exit 2
}

# in_each "FILE..." SET...: print data/SET/FILE for every set and file
in_each() {
  local file set
  for set in "${@:2}"; do
    for file in $1; do echo "data/$set/$file"; done
  done
}

# config_section FILE KEY: print one part of a YAML file, for stages that depend only on that part.
config_section() {
  python -c '
import json, sys
from asr.config.read import load_yaml
from asr.errors import InputError
try:
    print(json.dumps(load_yaml(sys.argv[1]).get(sys.argv[2]), sort_keys=True))
except InputError as error:
    sys.exit(str(error))' "$1" "$2"
}

# in_range N: is stage N among the stages to run?
in_range() { [ "$stage" -le "${1%%.*}" ] && [ "$stop_stage" -ge "${1%%.*}" ]; }

# stage_begin N TITLE INPUT...: does the stage have to run? The parts of a stage are named N.name.
stage_begin() {
  local inputs
  in_range "$1" || return 1
  stage_record=$stage_dir/$1
  stage_number=${1%%.*}
  stage_title=$2
  shift 2
  inputs=$(_signature --inputs "$@") || exit 2
  if [ "$force" != true ] && [ -f "$stage_record.done" ] && _is_done "$inputs"; then
    echo "stage $stage_number: $stage_title: done already, inputs unchanged (--force true runs it again)"
    stage_number=
    return 1
  fi
  _lock_stage
  # shellcheck disable=SC2034
  stage_changed=false
  # shellcheck disable=SC2034
  if [ -f "$stage_record.begun" ] && { [ "$force" = true ] || [ "$(cat "$stage_record.begun")" != "$inputs" ]; }; then
    stage_changed=true
  fi
  rm -f "$stage_record.done" && _write "$stage_record.begun" "$inputs" || exit 1
  echo "stage $stage_number: $stage_title"
}

# _lock_stage: let no other run of the recipe begin this stage until it is done. The jobs of the stage
# inherit the lock, so that it lasts as long as one of them runs, even if this script is killed.
_lock_stage() {
  mkdir -p "$stage_dir" && exec 8>"$stage_record.lock" || exit 1
  python -I -c '
import fcntl
try:
    fcntl.flock(8, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    raise SystemExit(1)
except OSError:  # some network file systems have no locks
    pass' && return
  stage_number=
  bad_usage "$stage_title: another run of this recipe is at work on it; wait for it, stop it, or name another --dir"
}

_is_done() { # _is_done INPUTS: have inputs and outputs not changed since the last run?
  local outputs=()
  [ "$(cat "$stage_record.begun")" = "$1" ] || return 1
  mapfile -t outputs <"$stage_record.outputs"
  [ "$(cat "$stage_record.done")" = "$(_signature "${outputs[@]}")" ]
}

# stage_done OUTPUT...: record that the stage that began last has succeeded.
stage_done() {
  local outputs
  outputs=$(_signature --outputs "$@") || exit
  _write "$stage_record.outputs" "$(printf '%s\n' "$@")" && _write "$stage_record.done" "$outputs" || exit 1
  exec 8>&-
  stage_number=
}

_write() { # _write FILE TEXT: write the file atomically
  printf '%s\n' "$2" >"$1.tmp" && mv "$1.tmp" "$1" && return
  echo "$1: cannot be written; free some space, or make the folder writable" >&2
  return 1
}

# set_aside FOLDER: rename the results of an earlier run with other inputs.
set_aside() {
  local old
  [ -n "$(find "$1" -type f ! -path "$1/log/*" 2>/dev/null | head -n 1)" ] || return 0
  old=$1.$(date +%Y%m%d-%H%M%S)
  mv "$1" "$old"
  echo "the old contents of $1 are now in $old"
}

# of_caller PATH: print a path; one that the user typed is relative to the folder of the user, while
# defaults are relative to the recipe. Paths in the recipe are printed relative to it, so that the
# stages do not depend on where the user stands.
of_caller() {
  local word path=$1 folder
  for word in "${stage_command[@]:1}"; do
    if [[ $word == "$1" && $word != /* && -e $caller_dir/$word ]]; then
      path=$(cd "$caller_dir/$(dirname "$word")" && pwd)/$(basename "$word")
    fi
  done
  folder=$(cd "$(dirname "$path")" 2>/dev/null && pwd -P)/
  case $folder in "$(pwd -P)/"*) path=${folder#"$(pwd -P)/"}$(basename "$path") ;; esac
  printf '%s\n' "$path"
}

# recipe_command [OPTIONS]: print the command line of the user without --stage and --force, with
# these options in front.
recipe_command() {
  local word skip=false number=0
  for word in "${stage_command[@]}"; do
    if $skip; then
      skip=false
    elif [ "$word" = --stage ] || [ "$word" = --force ]; then
      skip=true
    else
      [[ $word =~ ^[A-Za-z0-9_./:=-]+$ ]] || word=${word@Q}
      [ $number -eq 0 ] && printf '%s%s' "$word" "${1:+ $1}" || printf ' %s' "$word"
    fi
    number=1
  done
}

_report_failure() {
  local code=$?
  [ $code -ne 0 ] && [ -n "$stage_number" ] || return 0
  {
    echo
    if [ $code -eq 130 ]; then
      echo "stage $stage_number ($stage_title) was interrupted; go on with:"
    else
      echo "stage $stage_number ($stage_title) failed (exit code $code)"
      echo "when that is fixed, go on with:"
    fi
    echo "  $(recipe_command "--stage $stage_number")"
  } >&2
}
trap _report_failure EXIT
