#!/usr/bin/env bash
# Make the project's environment, .venv in the repository's root, or find it ready at once.
#
#   egs/utils/setup.sh           what recipes and tests need
#   egs/utils/setup.sh --lint    and the linters
#
# Needs Python 3.11 or newer and bash 4.4 or newer. PYTHON=/path/to/python3 chooses the interpreter.
# The versions are those of constraints.txt. A stamp in .venv remembers what it was made of;
# when constraints.txt, pyproject.toml, the interpreter or the repository's place changes, the
# next run brings it up to date. What an interrupted run left behind is made again.
# Where .venv is a link, the environment behind it is used if it was made for this repository,
# and is never changed: others may use it.
set -euo pipefail

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then # recipes and tests begin with this script
  echo "bash $BASH_VERSION: expected 4.4 or newer (on a Mac: brew install bash)" >&2
  exit 2
fi

unset CDPATH
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/.venv
stamp=$venv/.setup-stamp           # written last: everything is there
unfinished=$venv/.setup-unfinished # written first: this script made the folder and was not done
log=$venv/setup.log
need_gb=8 # free space for a new environment, pip's cache included

trap 'say "stopped by a failure in line $LINENO"' ERR
say() { echo "setup: $*" >&2; }
fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

[ -f "$root/constraints.txt" ] ||
  fail "$root is not the repository; in a recipe, utils is a link: ln -sfn ../utils utils"

extras="test"
for option in "$@"; do
  case $option in
    --lint) extras="test,lint" ;;
    --help | -h)
      sed -n '2,/^set /{/^#/!d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) fail "$option: no such option; --help lists them" ;;
  esac
done

ask() { # ask PYTHON CODE [ARGUMENT...]: what the code prints; silent when that is no Python
  "$1" -c "${@:2}" 2>/dev/null
}
version_of() { ask "$1" 'import sys; print("%d.%d.%d" % sys.version_info[:3])'; }
is_new_enough() { ask "$1" 'import sys; sys.exit(sys.version_info < (3, 11))'; }

has_venv() { ask "$1" 'import ensurepip, venv'; }

find_python() { # prints the interpreter to make the environment with
  local candidate without_venv=
  if [ -n "${PYTHON:-}" ]; then
    is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON: expected Python 3.11 or newer, found \
$(version_of "$PYTHON" || echo "nothing that runs")"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    is_new_enough "$candidate" || continue
    if has_venv "$candidate"; then
      echo "$candidate"
      return
    fi
    without_venv=${without_venv:-$candidate}
  done
  [ -n "$without_venv" ] ||
    fail "no Python 3.11 or newer found ($(python3 --version 2>&1 || true));" \
      "install one (Debian, Ubuntu: apt install python3 python3-venv)," \
      "or name it: PYTHON=/path/to/python3 $0"
  echo "$without_venv"
}

# What the environment depends on, and on its last line what is installed in it.
wanted_stamp() { # wanted_stamp VERSION EXTRAS
  cat "$root/constraints.txt" "$root/pyproject.toml" | cksum
  printf 'root %s\npython %s\nextras %s\n' "$root" "$1" "$2"
}

is_fresh() {
  local version extra
  [ -f "$stamp" ] && [ ! -e "$unfinished" ] || return 1
  version=$(version_of "$venv/bin/python") || return 1
  if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$version" ]; then return 1; fi
  for extra in "$extras" test,lint; do
    [ "$(cat "$stamp")" = "$(wanted_stamp "$version" "$extra")" ] && return 0
  done
  return 1
}

is_usable() { # the environment can be brought up to date where it is
  local version
  [ ! -e "$unfinished" ] || return 1
  version=$(version_of "$venv/bin/python") || return 1
  is_new_enough "$venv/bin/python" || return 1
  [ "$(version_of "$1")" = "$version" ] || [ -z "${PYTHON:-}" ] || return 1
  # pip's scripts carry the path of the environment: one that was copied or moved is no good
  grep -qF "VIRTUAL_ENV=$venv" "$venv/bin/activate" 2>/dev/null ||
    grep -qF "VIRTUAL_ENV='$venv'" "$venv/bin/activate" 2>/dev/null ||
    grep -qF "VIRTUAL_ENV=\"$venv\"" "$venv/bin/activate" 2>/dev/null
}

# Others may use what a link points to: clones that share an environment, or a file system.
check_no_link() {
  [ ! -L "$venv" ] ||
    fail "$venv is a link to $(readlink "$venv"), which was not made for this repository or is" \
      "not up to date; what is behind a link is never changed, for others may use it:" \
      "remove the link (rm $venv) and run this again"
}

check_space() { # check_space PYTHON
  local free
  free=$(ask "$1" "import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free >> 30)" "$root")
  [ "$free" -ge $need_gb ] ||
    fail "$root: $free GB are free, the environment needs $need_gb GB; free some space"
}

make_venv() { # make_venv PYTHON
  local version
  version=$(version_of "$1")
  has_venv "$1" ||
    fail "$1 ($version) cannot make environments: its venv module is missing;" \
      "install it (Debian, Ubuntu: apt install python3-venv or python${version%.*}-venv)"
  check_space "$1"
  say "making $venv with Python $version"
  mkdir -p "$venv"
  : >"$unfinished"
  "$1" -m venv --clear "$venv" >&2 || fail "$1 -m venv failed; see above"
  : >"$unfinished"
}

run_pip() { # run_pip ARGUMENT...: pip with its output in the log, the large downloads shown
  local line
  if ! "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" \
    -c "$root/constraints.txt" --progress-bar off 2>&1 | tee -a "$log" |
    while IFS= read -r line; do
      case $line in
        *"Downloading "*[0-9][0-9].[0-9]" MB)" | *" GB)") say "  ${line#"${line%%[! ]*}"}" ;;
        "Installing collected"*torch*) say "  unpacking; this takes some minutes" ;;
      esac
    done; then
    say "pip failed; the end of $log:"
    tail -n 15 "$log" | sed 's/^/  /' >&2
    fail "fix what it says (network? disk?) and run this again"
  fi
}

install() {
  : >"$log"
  if [ -e "$unfinished" ]; then
    say "installing the packages of constraints.txt (several GB once, most of it torch)"
  else
    say "bringing $venv up to date with constraints.txt"
  fi
  run_pip install setuptools
  run_pip install --no-build-isolation --editable "${root}[$extras]"
  has_compiler || run_pip install ziglang
  "$venv/bin/python" -c 'import torch, torchaudio, soundfile, asr' >>"$log" 2>&1 ||
    fail "the packages were installed but do not work; see $log," "or remove $venv and run this again"
}

# The inner loops are compiled on first use; a system without a compiler gets one from a package.
has_compiler() {
  [ -n "${CXX:-}" ] || command -v c++ || command -v g++ || command -v clang++
} >/dev/null

# One set-up at a time. The lock belongs to the open file and goes away with the last process
# that has it open, however it ends; Python takes it because not every system has flock(1).
take_lock() { # take_lock PYTHON
  [ -w "$root/constraints.txt" ] || fail "$root: cannot be written; copy the repository to a folder of your own"
  exec 9<>"$root/constraints.txt"
  if ! ask "$1" 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)'; then
    say "another set-up is at work; waiting for it"
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
  fi
}

is_fresh && exit 0
check_no_link
python=$(find_python) || exit 1
take_lock "$python"
is_fresh && exit 0 # the other one did it
trap 'say "interrupted; run it again to go on"; exit 130' INT TERM
start=$SECONDS
is_usable "$python" || make_venv "$python"
install
rm -f "$unfinished"
wanted_stamp "$(version_of "$venv/bin/python")" "$extras" >"$stamp.new"
mv "$stamp.new" "$stamp"
say "ready after $((SECONDS - start)) s: $venv"
