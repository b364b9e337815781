#!/usr/bin/env bash
# Make the model that comes with the package, from a training of run.sh:
#
#   local/ship.sh exp/las_seed3       # the training with the lowest WER on train_dev
#
# It is trained on with conf/ship.yaml, stored as int8 with the search settings of exp/las_tuned,
# taught how sure it may be, and measured on train_dev as recorded and in worse copies.
[ $# -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
# shellcheck source=../path.sh
. ./path.sh
set -euo pipefail

from=$1 dev=data/ship_dev dir=exp/ship search=exp/las_tuned/ctc.yaml
ships=../../asr/models/an4/model.safetensors

for set in train:nodev dev:dev; do # copies, for conf/ship.yaml has other features
  mkdir -p data/ship_${set%:*}
  cp data/train_${set#*:}/{text,wav.scp,utt2spk,spk2utt} data/ship_${set%:*}
done
asr features data/ship_{train,dev} --config conf/ship.yaml
asr train --config conf/ship.yaml --init "$from" --train data/ship_train --dev $dev \
  --tokens data/lang_char/tokens.txt --out $dir
asr export $dir -o $dir/int8.safetensors --dtype int8 --search $search \
  --info hears="spelled letters, digits, numbers, dates, short commands (CMU AN4)" \
  --info languages=English --info licence="Apache-2.0; trained on CMU AN4 (BSD-style licence)" \
  --info data="38 minutes of 66 speakers: train_nodev of CMU AN4"
mkdir -p "$(dirname $ships)"
asr calibrate $dir/int8.safetensors $dev -o $ships

conditions=(telephone noise quiet overdriven)
python local/degrade.py $dev $dev "${conditions[@]}"
for set in $dev "${conditions[@]/#/${dev}_}"; do
  asr decode --config $search --model $ships --data "$set" --out "$dir/decode_${set##*/}" --threads 1
  asr score "$set" "$dir/decode_${set##*/}" --out "$dir/decode_${set##*/}" >"$dir/decode_${set##*/}/score.txt"
done
cat $dir/decode_*/scoring_kaldi/best_wer
grep -h real_time_factor $dir/decode_ship_dev/decode.json
ls -l $ships
