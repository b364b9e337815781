#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086 # commands, options and in_each are lists of words
# shellcheck source-path=SCRIPTDIR
# Hear English and write another language: train, decode and score one model for each kind of
# attention, on the bundled data/mini.
caller_dir=$PWD
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

stage=0
stop_stage=6
corpus=../../data/mini
kinds=location
train_config=conf/train.yaml
encoder_config=../librispeech/conf/train_mini.yaml
decode_config=conf/decode.yaml
train_options=
encoder_options=
decode_options=
dir=exp
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

help_message="usage: egs/mini_translation/run.sh [--name value]...

  --kinds 'NAME NAME'   kinds of attention to train (default: $kinds); asr bench attention --list
                        names them
  --corpus DIR          train-mini, dev-mini and test-mini (default: the bundled data/mini)
  --stage N, --stop-stage N   first and last stage: 0 data, 1 features and CMVN, 2 characters,
                        3 encoder (a model that writes English), 4 training, 5 decoding,
                        6 scoring
  --force true          run stages again although their inputs have not changed
  --dir DIR             folder of the trainings, DIR/<kind> (default: $dir)
  --train-config FILE, --train-options '...'    settings and further options of asr train
  --encoder-config FILE, --encoder-options '...'    the same for the model that writes English
  --decode-config FILE, --decode-options '...', --decode-tag NAME   the same for asr decode
  --seed N              of the training (default: $seed)
  --seeds 'N N N'       several trainings, DIR/<kind>_seed<N>, each decoded and scored
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

corpus=$(of_caller "$corpus")
train_config=$(of_caller "$train_config")
encoder_config=$(of_caller "$encoder_config")
decode_config=$(of_caller "$decode_config")
train=train_mini
dev=dev_mini
sets=("$train" "$dev" test_mini)
eval_sets=("${sets[@]:1}")
base=$dir
stage_dir=data/.stages

for set in "${sets[@]}"; do
  part=$corpus/${set//_/-}
  if stage_begin 0.$set "data: $set" "$part" local/{translate,grammar}.py \
    ../librispeech/local/prepare.py; then
    python ../librispeech/local/prepare.py "$part" data/english/$set
    python local/translate.py data/english/$set data/$set
    asr data validate data/$set
    stage_done $(in_each "text wav.scp utt2spk" english/$set $set)
  fi
done

features=$(config_section "$train_config" features) || exit 2
if stage_begin 1 "features and CMVN" $(in_each "wav.scp utt2spk" "${sets[@]}") \
  "features=$features"; then
  $decode_cmd exp/log/features.log \
    asr features "${sets[@]/#/data/}" data/english/{$train,$dev} --config "$train_config" --nj $nj
  stage_done $(in_each "utt2dur utt2num_frames cmvn.ark" "${sets[@]}" english/{$train,$dev})
fi

for language in english other; do
  case $language in english) of=english/$train ;; other) of=$train ;; esac
  if stage_begin 2.$language "characters: $language" data/$of/text; then
    asr chars data/$of -o data/lang_$language/tokens.txt
    stage_done data/lang_$language/tokens.txt
  fi
done

# Train a recogniser of English first; all kinds of attention begin with its encoder.
english_encoder() {
  local train=english/$train dev=english/$dev tokens=data/lang_english/tokens.txt dir=$base/english
  seeds='' train_config=$encoder_config train_options=$encoder_options train_stage 3
}
english_encoder

# bleu_stage N SET...: BLEU, chrF and exact sentences of the decoded sets.
bleu_stage() { each_training _bleu "$@"; }

_bleu() {
  local number=$1 set out
  for set in "${@:2}"; do
    out=$dir/decode_${set}_$decode_tag
    if stage_begin "$number.${set}_${decode_tag}_bleu" "BLEU of $set$of_seed" data/$set/text "$out/text" \
      local/bleu.py; then
      # shellcheck disable=SC2016 # for the inner bash
      $decode_cmd "$out/log/bleu.log" \
        bash -c 'python local/bleu.py "$1" "$2/text" >"$2/bleu"' bash data/$set/text "$out"
      stage_done "$out/bleu"
    fi
  done
}

# add_bleu SET...: print the lines of bleu_stage, and add them to RESULTS.
add_bleu() {
  each_training _cat_bleu "$@" | tee "$dir/bleu.tmp"
  cat "$dir/RESULTS" "$dir/bleu.tmp" >"$dir/RESULTS.tmp"
  mv "$dir/RESULTS.tmp" "$dir/RESULTS"
  rm "$dir/bleu.tmp"
}

_cat_bleu() {
  local set
  for set in "$@"; do cat "$dir/decode_${set}_$decode_tag/bleu"; done
}

tokens=data/lang_other/tokens.txt
for kind in $kinds; do
  dir=$base/$kind
  train_stage 4 --init "$base/english:encoder" --model.attention.kind $kind # asr train
  decode_stage 5 "${eval_sets[@]}"                                       # asr decode
  score_stage 6 "${eval_sets[@]}"                                        # asr score
  bleu_stage 6 "${eval_sets[@]}"                                         # local/bleu.py
  if in_range 6; then
    write_results
    add_bleu "${eval_sets[@]}"
  fi
done
