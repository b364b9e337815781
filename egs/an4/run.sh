#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086 # commands, options and in_each are lists of words
# shellcheck source-path=SCRIPTDIR
# Train, decode and score a recogniser on CMU AN4 (Census): spelled words, numbers, dates.
caller_dir=$PWD
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

stage=-1
stop_stage=6
corpus=
mirror=http://www.speech.cs.cmu.edu/databases/an4
archive=an4_sphere.tar.gz
train_config=conf/train.yaml
decode_config=conf/decode.yaml
train_options=
decode_options=
lm_config=conf/lm.yaml
dir=
seeds="1 2 3"
cmd_backend=${cmd_backend:-} # cmd.sh has the default
device=auto
threads=0
nj=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
decode_nj=1
ngpu=0
nodes=1
requeue=false
force=false
synthetic=

help_message="usage: egs/an4/run.sh --corpus DIR [--name value]...

  --corpus DIR          the unpacked corpus (with etc/ and wav/), NIST SPHERE or raw, in either
                        byte order; without it, --archive is downloaded from --mirror
  --mirror URL          default: $mirror
  --archive NAME        default: $archive; also an4_raw.bigendian.tar.gz or
                        an4_raw.littleendian.tar.gz
  --stage N, --stop-stage N   first and last stage: -1 download, 0 data, 1 features and CMVN,
                        2 characters, 3 language model, 4 training and an ensemble of
                        several seeds, 5 decoding and its weights, 6 scoring
  --force true          run stages again although their inputs have not changed
  --dir DIR             folder of the training (default: exp/las; with --synthetic exp/synthetic)
  --train-config FILE   default: $train_config
  --train-options '...' further options of asr train, for example '--epochs 10'
  --decode-config FILE, --decode-options '...'   the same for asr decode
  --lm-config FILE      default: $lm_config
  --synthetic DIR       train on this data directory of local/synthesise.py, too
  --seeds 'N N N'       train one model for each seed, DIR_seed<N> (default: $seeds)
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
lm_config=$(of_caller "$lm_config")
seed=1 # where --seeds is empty
train=train_nodev
dev=train_dev
eval_sets=("$dev")
variant=${synthetic:+_synthetic} # characters and language models are those of the training text
if [ -z "$dir" ]; then
  dir=exp/las
  [ -z "$synthetic" ] || dir=exp/synthetic
fi
tokens=data/lang_char$variant/tokens.txt
words=exp/lm$variant/words.arpa          # a 3-gram of words, which guesses characters by looking ahead
spelling=exp/lm$variant/char.safetensors # and a model of characters for the words that it does not know
stage_dir=data/.stages

root=downloads/an4
if [ -n "$corpus" ]; then
  root=$(of_caller "$corpus")
  [ -d "$root" ] || bad_usage "--corpus $corpus: no such folder; expected AN4 with etc/ and wav/"
elif stage_begin -1 "download" "archive=$archive"; then
  python utils/fetch.py "$mirror/$archive" downloads
  stage_done downloads/an4/etc
fi

if stage_begin 0 "data" "$root" local/prepare.py; then
  python local/prepare.py "$root" data
  sets=("$train" "$dev")
  [ ! -d data/test ] || sets+=(test)
  for set in "${sets[@]}"; do asr data validate data/$set; done
  stage_done $(in_each "text wav.scp utt2spk spk2utt" "${sets[@]}")
fi
[ ! -d data/test ] || eval_sets+=(test)

if [ -n "$synthetic" ]; then
  synthetic=$(of_caller "$synthetic")
  stage_dir=data/.stages/synthetic
  if stage_begin 0.synthetic "synthetic speech" "$synthetic"/{text,wav.scp,utt2spk} \
    $(in_each "text wav.scp utt2spk" $train); then
    rm -rf data/train_with_synthetic
    asr data combine data/train_with_synthetic data/$train "$synthetic"
    stage_done $(in_each "text wav.scp utt2spk" train_with_synthetic)
  fi
  train=train_with_synthetic
fi

features=$(config_section "$train_config" features) || exit 2
if stage_begin 1 "features and CMVN" $(in_each "wav.scp utt2spk" $train "${eval_sets[@]}") \
  "features=$features"; then
  $decode_cmd exp/log/features$variant.log \
    asr features data/$train "${eval_sets[@]/#/data/}" --config "$train_config" --nj $nj
  stage_done $(in_each "utt2dur utt2num_frames cmvn.ark" $train "${eval_sets[@]}")
fi

if stage_begin 2 "characters" data/$train/text; then
  asr chars data/$train -o $tokens
  stage_done $tokens
fi

if stage_begin 3 "language models" "$lm_config" $(in_each text $train $dev) $tokens; then
  asr lm ngram --order 3 --text data/$train --out $words
  $train_cmd exp/lm$variant/log/train.log \
    asr lm train --config "$lm_config" --text data/$train --dev data/$dev --tokens $tokens \
    --out $spelling --device $device --threads $threads
  stage_done $words $spelling
fi

train_stage 4
stage_dir=exp/.stages/${dir//\//%}

# With several seeds, one model of all trainings: a search reads the mean of their probabilities.
mapfile -t trainings < <(each_training say_dir)
ensemble=
if [ ${#trainings[@]} -gt 1 ]; then
  ensemble=${dir}_ensemble
  if stage_begin 4.ensemble "ensemble" "${trainings[@]/%//final.safetensors}"; then
    asr ensemble "${trainings[@]}" -o "$ensemble/final.safetensors"
    stage_done "$ensemble/final.safetensors"
  fi
fi

# of_ensemble COMMAND...: run the command for the ensemble, not the trainings; without one, do nothing
of_ensemble() { [ -z "$ensemble" ] || seeds='' dir=$ensemble "$@"; }

# Weights of the search, without and with the language models: chosen on dev for all seeds.
make_lists() { decode_tag=nbest decode_options="$decode_options --beam 24 --nbest 24" "$@" 5 $dev; }
make_lists decode_stage
make_lists of_ensemble decode_stage
say_list() { echo "$dir/decode_${dev}_nbest"; }
mapfile -t lists < <(each_training say_list)
tuned=${dir}_tuned
if stage_begin 5.tune "weights of the search" data/$dev/text "${lists[@]/%//results.jsonl}" \
  "$decode_config" $words $spelling; then
  asr tune data/$dev "${lists[@]}" --no-lm --config "$decode_config" --out "$tuned/ctc.yaml"
  asr tune data/$dev "${lists[@]}" --word_lm $words --lm $spelling --lm_share 0 \
    --oov_penalty 2 --tokens $tokens --config "$decode_config" --out "$tuned/lm.yaml"
  stage_done "$tuned"/{ctc,lm}.yaml
fi

if [ -n "$ensemble" ] && stage_begin 5.ensemble "weights of the ensemble's search" data/$dev/text \
  "$ensemble/decode_${dev}_nbest/results.jsonl" "$decode_config"; then
  asr tune data/$dev "$ensemble/decode_${dev}_nbest" --no-lm --config "$decode_config" \
    --out "$tuned/ensemble.yaml"
  stage_done "$tuned/ensemble.yaml"
fi

# final_searches COMMAND...: run the command for the searches with the tuned weights
# searches COMMAND...: also for attention alone, greedy and with a beam, and for the last epoch
final_searches() {
  decode_tag=ctc decode_config=$tuned/ctc.yaml "$@"
  decode_tag=ctc_lm decode_config=$tuned/lm.yaml "$@"
}
searches() {
  local plain="$decode_options --ctc_weight 0 --length_bonus 0"
  decode_tag=greedy decode_options="$plain --beam 1" "$@"
  decode_tag=attention decode_options="$plain" "$@"
  decode_tag=ctc_last decode_model=last decode_config=$tuned/ctc.yaml "$@"
  final_searches "$@"
}
searches decode_stage 5 $dev
searches score_stage 6 $dev
if [ -d data/test ]; then
  final_searches decode_stage 5 test
  final_searches score_stage 6 test
fi

for command in "decode_stage 5" "score_stage 6"; do
  decode_tag=ensemble decode_config=$tuned/ensemble.yaml of_ensemble $command "${eval_sets[@]}"
done

! in_range 6 || write_results
