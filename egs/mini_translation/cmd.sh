# shellcheck shell=bash
# shellcheck disable=SC2034 # for run.sh
# How jobs are run: CMD [options] [JOB=1:N] LOG COMMAND...
# On a cluster write "queue.pl --mem 8G --gpu 1" or "slurm.pl ..." of Kaldi here instead.
train_cmd="utils/run_local.sh --show true"
decode_cmd="utils/run_local.sh"
