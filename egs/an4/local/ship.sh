#!/usr/bin/env bash
# Make the model that comes with the package, from a training of run.sh:
#
#   local/ship.sh exp/las_seed1       # the training with the lowest WER on train_dev
#
# It fine-tunes the training with conf/ship.yaml, stores it as int8 with the search settings of
# exp/las_tuned, calibrates it on train_dev, and scores it on train_dev and degraded copies of it.
[ $# -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
# shellcheck source=../path.sh
. ./path.sh
set -euo pipefail
shopt -s inherit_errexit # a failure within $(...) counts, too

from=$1 dev=data/ship_dev dir=exp/ship search=exp/las_tuned/ctc.yaml
ships=../../asr/models/an4/model.safetensors
conditions=(telephone noise quiet overdriven)

small() { # small FILE [--info wer=...]: export the model as int8 with its search settings and model card
  asr export $dir -o "$1" --dtype int8 --search $search "${@:2}" \
    --info hears="spelled letters, digits, numbers, dates, short commands (CMU AN4)" \
    --info languages=English \
    --info licence="Apache-2.0; trained on CMU AN4 (BSD-style licence)" \
    --info data="38 minutes of 66 speakers: train_nodev of CMU AN4"
}

measure() { # measure MODEL DATA OUT: %WER line
  asr decode --config $search --model "$1" --data "$2" --out "$3" --threads 1 >&2
  asr score "$2" "$3" --out "$3" >"$3/score.txt"
  cat "$3/scoring_kaldi/best_wer"
}

for set in train:nodev dev:dev; do # copies, because conf/ship.yaml has other features
  mkdir -p data/ship_${set%:*}
  cp data/train_${set#*:}/{text,wav.scp,utt2spk,spk2utt} data/ship_${set%:*}
done
asr features data/ship_{train,dev} --config conf/ship.yaml
asr train --config conf/ship.yaml --init "$from" --train data/ship_train --dev $dev \
  --tokens data/lang_char/tokens.txt --out $dir

small $dir/int8.safetensors
wer=$(measure $dir/int8.safetensors $dev $dir/decode_clean | awk '{ print $2 }')
small $dir/int8.safetensors --info wer="$wer % (train_dev, 8 speakers)"
mkdir -p "$(dirname $ships)"
asr calibrate $dir/int8.safetensors $dev -o $ships
mv "${ships%.safetensors}.reliability.png" $dir/

python local/degrade.py $dev $dev "${conditions[@]}"
for condition in "${conditions[@]}"; do
  measure $ships "${dev}_$condition" "$dir/decode_$condition" >/dev/null
done
cat $dir/decode_*/scoring_kaldi/best_wer
grep -h real_time_factor $dir/decode_clean/decode.json
ls -l $ships
