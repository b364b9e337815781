#!/usr/bin/env bash
# Run the tests; makes the environment first if there is none.
#
#   tests/run.sh                        all tests
#   tests/run.sh tests/model -k gru     arguments go to pytest
#   tests/run.sh --lint                 ruff, mypy and shellcheck, then all tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lint=false
arguments=()
for argument in "$@"; do
  case $argument in
    --lint) lint=true ;;
    *) arguments+=("$argument") ;;
  esac
done

if $lint; then egs/utils/setup.sh --lint; else egs/utils/setup.sh; fi
PATH=$PWD/.venv/bin:$PATH
export LC_ALL=C.UTF-8
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # small products are faster on one thread

failed=()
check() { # check COMMAND...: say what runs, go on when it fails
  echo "+ ${*:1:4}"
  "$@" || failed+=("$1")
}

bash_scripts() { # every file that bash reads
  grep -rlE --include='*.sh' --include=run --exclude-dir={.venv,.git,exp,data,downloads,build} \
    '^#(!.*bash| shellcheck shell=bash)' . | sort
}

if $lint; then
  check ruff check .
  check ruff format --check asr data egs tests
  check mypy
  mapfile -t scripts < <(bash_scripts)
  check shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
fi
if [ ${#arguments[@]} -eq 0 ]; then # several files at a time
  arguments=(-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
fi
check pytest "${arguments[@]}"

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
