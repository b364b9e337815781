# shellcheck shell=bash
# Where programs are, and the sort order of Kaldi data directories.
PATH=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv/bin:$PATH
export PATH
export LC_ALL=C
