# shellcheck shell=bash
# Stages of a recipe: numbered, skipped when they are done, and clear about what failed.
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
# A stage is skipped when the inputs given to stage_begin and the outputs given to stage_done
# are what they were when it last ended: files and folders by their content (large ones and
# audio by size and time), and name=value words by their value. What is remembered lies in
# $stage_dir. Reads the variables stage, stop_stage, force, stage_dir and caller_dir (where the
# user stands) of the recipe.
# shellcheck disable=SC2154 # stage, stop_stage, force

: "${stage_dir:=exp/.stages}"
stage_command=("$0" "$@")
caller_dir=${caller_dir:-$PWD}
stage_number=
stage_title=
stage_record=
# shellcheck disable=SC2034 # for the recipe
stage_changed=false # this stage was begun before, with other inputs or now by force

_signature() { python -I utils/signature.py "$@"; }

# bad_usage MESSAGE...: say what is wrong with the command line, and end.
bad_usage() {
  printf '%s\n' "${stage_command[0]}: $1" "${@:2}" >&2
  exit 2
}

# in_each "FILE..." SET...: those files of data/SET, as words
in_each() {
  local file set
  for set in "${@:2}"; do
    for file in $1; do echo "data/$set/$file"; done
  done
}

# config_section FILE KEY: one part of a YAML file, for stages that depend on that part alone.
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

# in_range N: whether stage N was asked for.
in_range() { [ "$stage" -le "${1%%.*}" ] && [ "$stop_stage" -ge "${1%%.*}" ]; }

# stage_begin N TITLE INPUT...: whether the stage has to run. A stage with several parts calls
# them N.name.
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
  # shellcheck disable=SC2034
  stage_changed=false
  # shellcheck disable=SC2034
  if [ -f "$stage_record.begun" ] && { [ "$force" = true ] || [ "$(cat "$stage_record.begun")" != "$inputs" ]; }; then
    stage_changed=true
  fi
  mkdir -p "$stage_dir"
  rm -f "$stage_record.done"
  _write "$stage_record.begun" "$inputs"
  echo "stage $stage_number: $stage_title"
}

_is_done() { # _is_done INPUTS: inputs and outputs are those of the last time
  local outputs=()
  [ "$(cat "$stage_record.begun")" = "$1" ] || return 1
  mapfile -t outputs <"$stage_record.outputs"
  [ "$(cat "$stage_record.done")" = "$(_signature "${outputs[@]}")" ]
}

# stage_done OUTPUT...: the stage that began last has ended well.
stage_done() {
  _write "$stage_record.outputs" "$(printf '%s\n' "$@")"
  _write "$stage_record.done" "$(_signature --inputs "$@")"
  stage_number=
}

_write() { # _write FILE TEXT: all of it or nothing
  printf '%s\n' "$2" >"$1.tmp"
  mv "$1.tmp" "$1"
}

# set_aside FOLDER: keep what an earlier run with other inputs made, under another name.
set_aside() {
  local old
  [ -n "$(find "$1" -type f ! -path "$1/log/*" 2>/dev/null | head -n 1)" ] || return 0
  old=$1.$(date +%Y%m%d-%H%M%S)
  mv "$1" "$old"
  echo "its inputs have changed: what was in $1 is now in $old"
}

# of_caller PATH: a path from the command line; relative ones start where the user stands.
of_caller() {
  if [[ $1 != /* && -e $caller_dir/$1 ]]; then
    (cd "$caller_dir/$(dirname "$1")" && printf '%s/%s\n' "$PWD" "$(basename "$1")")
  else
    printf '%s\n' "$1"
  fi
}

# recipe_command [OPTIONS]: the command line of the user without --stage and --force, but with
# these options in front.
recipe_command() {
  local word skip=false
  printf '%s' "${stage_command[0]}${1:+ $1}"
  for word in "${stage_command[@]:1}"; do
    if $skip; then
      skip=false
    elif [ "$word" = --stage ] || [ "$word" = --force ]; then
      skip=true
    elif [[ $word =~ ^[A-Za-z0-9_./:=-]+$ ]]; then
      printf ' %s' "$word"
    else
      printf ' %s' "${word@Q}"
    fi
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
      echo "stage $stage_number ($stage_title) did not end well (exit code $code)"
      echo "when that is fixed, go on with:"
    fi
    echo "  $(recipe_command "--stage $stage_number")"
  } >&2
}
trap _report_failure EXIT
