#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086 # commands, options and in_each are lists of words
# shellcheck source-path=SCRIPTDIR
# Train, decode, score and try out a recogniser on LibriSpeech, or on the bundled data/mini.
caller_dir=$PWD
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

stage=-1
stop_stage=7
subset=
corpus=
mirror=https://www.openslr.org/resources
train_config=
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

help_message="usage: egs/librispeech/run.sh [--name value]...

  --subset NAME         mini (bundled, offline; the default), train-clean-5 (Mini LibriSpeech),
                        train-clean-100, train-960; all but mini are downloaded; with --corpus
                        also all: every set that is in the folder (then the default)
  --corpus DIR          use this LibriSpeech folder instead of downloading
  --mirror URL          where to download from (default: $mirror)
  --stage N, --stop-stage N   first and last stage: -1 download, 0 data, 1 features and CMVN,
                        2 characters, 3 language model (none), 4 training, 5 decoding,
                        6 scoring, 7 transcribing a file
  --force true          run stages again although their inputs have not changed
  --dir DIR             folder of the training (default: exp/las, exp/las_<subset>)
  --train-config FILE   default: conf/train.yaml; train_mini.yaml for mini, train_large.yaml
                        from 100 hours on
  --train-options '...' further options of asr train, for example '--epochs 10'
  --decode-config FILE, --decode-options '...', --decode-tag NAME   the same for asr decode
  --seed N              of the training (default: 1)
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
if [ -z "$subset" ]; then
  if [ -n "$corpus" ]; then subset=all; else subset=mini; fi
fi
dev_and_test="dev-clean dev-other test-clean test-other"
case $subset in
  mini) train_parts="train-mini" eval_parts="dev-mini test-mini" ;;
  train-clean-5) train_parts="train-clean-5" eval_parts="dev-clean-2" ;;
  train-clean-100) train_parts="train-clean-100" eval_parts=$dev_and_test ;;
  train-960)
    train_parts="train-clean-100 train-clean-360 train-other-500"
    eval_parts=$dev_and_test
    ;;
  all)
    [ -n "$corpus" ] || bad_usage "--subset all: say where with --corpus"
    train_parts="train-clean-5 train-clean-100 train-clean-360 train-other-500"
    eval_parts="dev-clean-2 $dev_and_test"
    ;;
  *) bad_usage "--subset $subset: expected mini, train-clean-5, train-clean-100 or train-960" ;;
esac

utils/setup.sh

root=downloads/LibriSpeech
[ $subset != mini ] || root=../../data/mini
if [ -n "$corpus" ]; then
  root=$(of_caller "$corpus")
  [ ! -d "$root/LibriSpeech" ] || root=$root/LibriSpeech
fi
if [ -z "$dir" ]; then
  dir=exp/las
  [ $subset = mini ] || dir=exp/las_${subset//-/_}
fi
[ -z "$train_config" ] || train_config=$(of_caller "$train_config")
decode_config=$(of_caller "$decode_config")
tokens=data/lang_char/tokens.txt
[ $subset = mini ] || tokens=data/lang_char_${subset//-/_}/tokens.txt
stage_dir=data/.stages/$subset

if [ -z "$corpus" ] && [ $subset != mini ]; then
  if stage_begin -1 "download" subset=$subset; then
    python local/download.py --mirror "$mirror" downloads $train_parts $eval_parts
    # a file of each set, so that a set that was deleted is downloaded again
    stage_done $root/SPEAKERS.TXT $(for part in $train_parts $eval_parts; do
      find "$root/$part" -name '*.trans.txt' | LC_ALL=C sort | head -n 1
    done)
  fi
fi

# Prepare the sets that exist, and name the missing ones. Data sets have underscores in their names.
[ -d "$root" ] || bad_usage "$root: no such folder; expected LibriSpeech's train-*, dev-*, test-*"
train_sets=()
eval_sets=()
missing=()
for part in $train_parts $eval_parts; do
  case $part in
    train-clean-5) whole="train-clean-100" ;;
    dev-clean-2) whole="dev-clean" ;;
    *) whole= ;;
  esac
  if [ ! -d "$root/$part" ]; then
    missing+=("$part")
  elif [ $subset = all ] && [ -n "$whole" ] && [ -d "$root/$whole" ]; then
    echo "not used: $part, which is a part of $whole"
  elif [[ $part == train-* ]]; then
    train_sets+=("${part//-/_}")
  else
    eval_sets+=("${part//-/_}")
  fi
done
sets=("${train_sets[@]}" "${eval_sets[@]}")
[ ${#sets[@]} -gt 0 ] || bad_usage "$root: expected one or more of: $train_parts $eval_parts"
[ ${#missing[@]} -eq 0 ] || echo "not in $root: ${missing[*]}"

for set in "${sets[@]}"; do
  part=$root/${set//_/-}
  if stage_begin 0.$set "data: $set" "$part" local/prepare.py; then
    python local/prepare.py "$part" data/$set
    asr data validate data/$set
    stage_done data/$set/{text,wav.scp,utt2spk,spk2utt}
  fi
done

[[ $subset == all || " ${missing[*]}" != *" train-"* ]] || train_sets=()
if [ ${#train_sets[@]} -eq 0 ] || [ ${#eval_sets[@]} -eq 0 ]; then
  echo "no training: for --subset $subset it needs ${train_parts// /, } and one of $eval_parts" >&2
  [ $stop_stage -lt 1 ] || exit 2
  exit 0
fi
dev=${eval_sets[0]}
[ $stop_stage -lt 1 ] || [[ $dev == dev* ]] || bad_usage "$root: expected a dev set (dev-clean or dev-other), \
because trainings choose their epochs and settings on it, and never on a test set"
train=${train_sets[0]}
if [ ${#train_sets[@]} -gt 1 ]; then
  train=train_${subset#train-}
  if stage_begin 0.join "data: $train" \
    $(in_each "text wav.scp utt2spk" "${train_sets[@]}"); then
    asr data combine data/$train "${train_sets[@]/#/data/}"
    stage_done data/$train/{text,wav.scp,utt2spk}
  fi
fi

case $train in
  train_mini) : "${train_config:=conf/train_mini.yaml}" ;;
  train_clean_5) : "${train_config:=conf/train.yaml}" ;;
  *) : "${train_config:=conf/train_large.yaml}" ;;
esac
features=$(config_section "$train_config" features) || exit 2
if stage_begin 1 "features and CMVN" $(in_each "wav.scp utt2spk" $train "${eval_sets[@]}") \
  "features=$features"; then
  $decode_cmd exp/log/features_$subset.log \
    asr features data/$train "${eval_sets[@]/#/data/}" --config "$train_config" --nj $nj
  stage_done $(in_each "utt2dur utt2num_frames cmvn.ark" $train "${eval_sets[@]}")
fi

if stage_begin 2 "characters" data/$train/text tokens=$tokens; then
  asr chars data/$train -o $tokens
  stage_done $tokens
fi

! in_range 3 || echo "stage 3: language model: none in this recipe"

train_stage 4                         # asr train
decode_stage 5 "${eval_sets[@]}"      # asr decode
score_stage 6 "${eval_sets[@]}"       # asr score
transcribe_stage 7 "${eval_sets[-1]}" # asr transcribe

if in_range 7; then
  write_results
  show_transcript "${eval_sets[-1]}"
fi
