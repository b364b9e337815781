# shellcheck shell=bash
# shellcheck disable=SC2034 # for run.sh
# How jobs are run: CMD [options] [JOB=1:N] LOG COMMAND... Source this file below the option parser.
# cmd_backend: local (this machine), slurm or sge. Change the options to those of your cluster;
# utils/slurm.sh and utils/sge.sh list them in their first comments.
cmd_backend=${cmd_backend:-local}
case $cmd_backend in
  local)
    train_cmd="utils/run_local.sh --show true"
    decode_cmd="utils/run_local.sh"
    ;;
  slurm)
    # for example also: --time 24:00:00 --partition gpu
    train_cmd="utils/slurm.sh --mem 16G --num-threads 4"
    decode_cmd="utils/slurm.sh --mem 8G --num-threads 2"
    ;;
  sge)
    train_cmd="utils/sge.sh --mem 16G --num-threads 4"
    decode_cmd="utils/sge.sh --mem 8G --num-threads 2"
    ;;
  *)
    echo "$0: --cmd-backend $cmd_backend: expected local, slurm or sge" >&2
    exit 2
    ;;
esac
