#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086 # commands, options and in_each are lists of words
# shellcheck source-path=SCRIPTDIR
# Train, decode and score a recogniser on speechocean762: English read by native speakers of
# Mandarin, half of them children.
caller_dir=$PWD
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

stage=-1
stop_stage=6
corpus=
mirror=https://www.openslr.org/resources/101
archive=speechocean762.tar.gz
init=
train_config=conf/train.yaml
decode_config=conf/decode.yaml
train_options=
decode_options=
dir=
decode_tag=beam
seed=1
seeds=
cmd_backend=${cmd_backend:-} # cmd.sh has the default
device=auto
threads=0
nj=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
decode_nj=1
ngpu=0
nodes=1
requeue=false
force=false

help_message="usage: egs/speechocean762/run.sh [--name value]...

  --corpus DIR          the unpacked corpus (with train/, test/ and WAVE/); without it,
                        --archive is downloaded from --mirror (520 MB)
  --mirror URL          default: $mirror
  --archive NAME        default: $archive
  --init MODEL          start the training from this model: a folder of a training, a file,
                        or a name of asr models
  --stage N, --stop-stage N   first and last stage: -1 download, 0 data, 1 features and CMVN,
                        2 characters, 3 language model (none), 4 training, 5 decoding,
                        6 scoring
  --force true          run stages again although their inputs have not changed
  --dir DIR             folder of the training (default: exp/las; with --init exp/las_init)
  --train-config FILE   default: $train_config
  --train-options '...' further options of asr train, for example '--epochs 10'
  --decode-config FILE, --decode-options '...', --decode-tag NAME   the same for asr decode
  --seed N              of the training (default: $seed)
  --seeds 'N N N'       several trainings, DIR_seed<N>, each decoded and scored
  --cmd-backend NAME    where jobs run: local (default), slurm or sge; see cmd.sh
  --device NAME         auto, cpu, cuda or cuda:N
  --threads N           of training and decoding; 0 takes every core
  --nj N                jobs of the data preparation (default: $nj)
  --decode-nj N         jobs that decode a set together (default: 1)
  --ngpu N, --nodes N   GPUs of a training on each node, and nodes (utils/torchrun.sh)
  --requeue true        on a cluster: go on after the time limit of a training
  --config FILE         bash file that sets any of these"

. ./path.sh
. utils/stages.sh
. utils/parse_options.sh
. ./cmd.sh
. utils/steps.sh
set -euo pipefail

[ $# -eq 0 ] || bad_usage "$1: options begin with two dashes; --help lists them"

utils/setup.sh

train_config=$(of_caller "$train_config")
decode_config=$(of_caller "$decode_config")
train=train_nodev
dev=train_dev
eval_sets=("$dev")
tokens=data/lang_char/tokens.txt
if [ -n "$init" ]; then
  if asr models | cut -d ' ' -f 1 | grep -Fqx "$init"; then
    : # a model of the package, also where a folder has its name
  elif init=$(of_caller "$init") && [ ! -e "$init" ]; then
    bad_usage "--init $init: not there; expected the folder of a training, a model, or a name of asr models"
  fi
fi
dir=${dir:-exp/las${init:+_init}}

stage_dir=data/.stages

root=downloads/speechocean762
if [ -n "$corpus" ]; then
  root=$(of_caller "$corpus")
  [ -d "$root" ] || bad_usage "--corpus $corpus: no such folder; expected train/, test/ and WAVE/"
elif stage_begin -1 "download" "archive=$archive"; then
  python utils/fetch.py "$mirror/$archive" downloads
  stage_done $root/train
fi

if stage_begin 0 "data" "$root" local/prepare.py; then
  python local/prepare.py "$root" data
  sets=("$train" "$dev")
  [ ! -d data/test ] || sets+=(test)
  for set in "${sets[@]}"; do asr data validate data/$set --check-audio; done
  stage_done $(in_each "text wav.scp utt2spk spk2utt" "${sets[@]}")
fi
[ ! -d data/test ] || eval_sets+=(test)

features=$(config_section "$train_config" features) || exit 2
if stage_begin 1 "features and CMVN" $(in_each "wav.scp utt2spk" $train "${eval_sets[@]}") \
  "features=$features"; then
  $decode_cmd exp/log/features.log \
    asr features data/$train "${eval_sets[@]/#/data/}" --config "$train_config" --nj $nj
  stage_done $(in_each "utt2dur utt2num_frames cmvn.ark" $train "${eval_sets[@]}")
fi

if stage_begin 2 "characters" data/$train/text; then
  asr chars data/$train -o $tokens
  stage_done $tokens
fi

! in_range 3 || echo "stage 3: language model: none in this recipe"

train_stage 4 ${init:+--init "$init"}  # asr train
decode_stage 5 "${eval_sets[@]}"       # asr decode
score_stage 6 "${eval_sets[@]}"        # asr score

! in_range 6 || write_results
