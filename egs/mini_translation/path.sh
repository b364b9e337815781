# shellcheck shell=bash
# Where programs are, and the sort order of Kaldi data directories.
PATH=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)/.venv/bin:$PATH
export PATH
export LC_ALL=C
