# shellcheck shell=bash
# shellcheck disable=SC2046,SC2086 # commands, options and in_each are lists of words
# The stages that every recipe ends with: training, decoding, scoring, transcribing a file.
# Source this file below the option parser:
#
#   . utils/stages.sh
#   . utils/parse_options.sh
#   . utils/steps.sh
#   ...
#   train_stage 4             # asr train       data/$train, data/$dev -> $dir
#   decode_stage 5 dev test   # asr decode      data/<set> -> $dir/decode_<set>_$decode_tag
#   score_stage 6 dev test    # asr score       against data/<set>/text
#
# They read the variables of the recipe: train, dev, tokens, dir, seed, seeds, device, threads,
# train_config, train_options, decode_config, decode_options, decode_tag, train_cmd, decode_cmd.
# Those that may be missing: ngpu and nodes (processes of a training on each node, and nodes),
# decode_nj (parts of a decoding), requeue (submit a training again that a time limit stopped).
#
# With seeds="1 2 3" there are three trainings, ${dir}_seed1 to ${dir}_seed3, and every stage
# handles all of them before the next one begins. The same sets can be decoded in several ways,
# each with its own tag:
#
#   decode_tag=greedy decode_config=conf/decode_greedy.yaml decode_stage 5 dev
#   decode_tag=greedy score_stage 6 dev
#
# decode_model=last decodes with the model of the last epoch instead of the mean of several.
#
# A training is made anew when a setting changes that its model depends on (training_inputs.py).
# Files among the options and settings (a model to start from, a language model) are inputs of the
# stage; of a folder of a training, its final.safetensors.
# shellcheck disable=SC2154 # the variables of the recipe

: "${seeds:=}" "${ensemble:=}" "${decode_model:=mean}" "${ngpu:=0}" "${nodes:=1}" "${decode_nj:=1}" "${requeue:=false}"
for variable in ngpu nodes decode_nj; do
  [[ ${!variable} =~ ^[0-9]+$ ]] || bad_usage "--${variable/_/-} ${!variable}: expected a number"
done
[[ $seeds =~ ^(\ *[0-9]+)*$ ]] || bad_usage "--seeds $seeds: expected numbers, for example \"1 2 3\""

for variable in stage stop_stage; do
  [[ ${!variable} =~ ^-?[0-9]+$ ]] ||
    bad_usage "--${variable/_/-} ${!variable}: expected a stage number; --help lists them"
done
[ "$stage" -le "$stop_stage" ] ||
  bad_usage "--stage $stage --stop-stage $stop_stage: the first stage comes after the last one; --help lists them"

# stage 1 reads the features from the file alone
[[ " $train_options" != *" --features."* ]] ||
  bad_usage "--train-options --features...: write the features into a file for --train-config"

dir=${dir%/}

# each_training COMMAND...: run the command with dir, seed and stage_dir of each training in turn.
each_training() {
  local base=$dir dir=$dir seed=$seed stage_dir of_seed='' one
  for one in ${seeds:-$seed}; do
    if [ -n "$seeds" ]; then
      dir=${base}_seed$one seed=$one of_seed=" (seed $one)"
    fi
    # shellcheck disable=SC2034 # for stage_begin
    stage_dir=exp/.stages/${dir//\//%}
    "$@"
  done
}

# files_among WORD...: print the words that are files or folders, of trainings the models; a word
# may be --option=FILE
files_among() {
  local word
  for word in "${@##--*=}"; do
    [ ! -f "$word/final.safetensors" ] || word=$word/final.safetensors
    [ ! -e "$word" ] || printf '%s\n' "$word"
  done
}

# files_in_settings FILE: print the language models and hot words named in a file of search settings
files_in_settings() { sed -nE "s/^(lm|word_lm|hotwords): *['\"]?([^'\"#]*[^'\"# ]).*/\2/p" "$1"; }

# train_stage N [OPTION...]: train with further options of asr train.
train_stage() { each_training _train "$@"; }

_train() {
  local number=$1 found inputs options
  shift
  in_range $number || return 0
  # shellcheck disable=SC2206 # train_options is a list of words
  options=(--config "$train_config" --train "data/$train" --dev "data/$dev" --tokens "$tokens"
    --out "$dir" --seed "$seed" --device "$device" --threads "$threads" $train_options "$@")
  found=$(python utils/training_inputs.py "${options[@]}") || exit
  mapfile -t inputs <<<"$found" # the settings, then models and noise
  if stage_begin $number "training$of_seed" "${inputs[@]}" $tokens \
    $(in_each "text wav.scp utt2spk utt2num_frames cmvn.ark" $train $dev); then
    [[ " $train_options $*" == *" --change"* ]] || ! $stage_changed || set_aside "$dir"
    $train_cmd $(queue_options) "$dir/log/train.log" $(launcher) asr train "${options[@]}"
    stage_done "$dir/final.safetensors"
  fi
}

# queue_options: print what the job of a training needs, for slurm.sh and sge.sh.
queue_options() {
  [ $ngpu -eq 0 ] || [ "$device" = cpu ] || echo "--gpu $ngpu"
  [ $nodes -eq 1 ] || echo "--num-nodes $nodes"
  ! $requeue || echo "--requeue true"
}

# launcher: print what starts a training with several processes.
launcher() {
  [ $ngpu -le 1 ] && [ $nodes -eq 1 ] || echo "utils/torchrun.sh $((ngpu > 0 ? ngpu : 1)) $nodes"
}

# model_to_decode: print the model that decode_model names
model_to_decode() {
  local epochs
  mapfile -t epochs < <(printf '%s\n' "$dir"/checkpoints/epoch_*.safetensors | sort -V)
  if [ "$decode_model" = last ]; then echo "${epochs[-1]}"; else echo "$dir"; fi
}

# decode_stage N SET...: decode sets into $dir/decode_<set>_$decode_tag.
decode_stage() { each_training _decode "$@"; }

_decode() {
  local number=$1 set out named files model
  in_range $number || return 0
  mapfile -t named < <(files_in_settings "$decode_config")
  mapfile -t files < <(files_among $decode_options "${named[@]}")
  model=$(model_to_decode)
  for set in "${@:2}"; do
    out=$dir/decode_${set}_$decode_tag
    if stage_begin "$number.${set}_$decode_tag" "decoding $set$of_seed" "$dir/final.safetensors" \
      "$decode_config" "options=$decode_options" "model=$decode_model" "${files[@]}" \
      $(in_each "wav.scp cmvn.ark" $set); then
      _decode_parts asr decode --config "$decode_config" --model "$model" --data data/$set \
        --out "$out" --device $device --threads $threads $decode_options
      stage_done "$out/text" "$out/results.jsonl"
    fi
  done
}

# _decode_parts COMMAND...: decode in decode_nj jobs, which write the results of one decoding.
_decode_parts() {
  if [ $decode_nj -le 1 ]; then
    $decode_cmd "$out/log/decode.log" "$@"
  else
    # parts of another number of jobs do not fit
    find "$out" -maxdepth 1 -name 'split*' ! -name split$decode_nj -exec rm -r {} + 2>/dev/null || true
    $decode_cmd JOB=1:$decode_nj "$out/log/decode.JOB.log" "$@" --part JOB/$decode_nj
    asr decode --data data/$set --out "$out" --merge
  fi
}

# score_stage N SET...: score the decoded sets.
score_stage() { each_training _score "$@"; }

_score() {
  local number=$1 set out
  for set in "${@:2}"; do
    out=$dir/decode_${set}_$decode_tag
    if stage_begin "$number.${set}_$decode_tag" "scoring $set$of_seed" data/$set/text "$out/text" data/$set/utt2spk; then
      mkdir -p "$out/log"
      asr score data/$set "$out" --out "$out" 2>&1 | tee "$out/log/score.log"
      stage_done "$out/scoring_kaldi/best_wer"
    fi
  done
}

# transcribe_stage N SET: transcribe the first recording of a set, as a user would.
transcribe_stage() { each_training _transcribe "$@"; }

_transcribe() {
  local wav
  in_range $1 || return 0
  read -r _ wav <data/$2/wav.scp
  if stage_begin $1 "transcribing $wav$of_seed" "$dir/final.safetensors" "$wav"; then
    # shellcheck disable=SC2016 # for the inner bash
    $decode_cmd "$dir/log/transcribe.log" \
      bash -c 'asr transcribe "$1" --model "$2" "${@:3}" >"$2/transcript.txt"' bash \
      "$wav" "$dir" --device $device --threads $threads
    stage_done "$dir/transcript.txt"
  fi
}

# show_transcript SET: print reference and hypothesis of the first recording of a set.
show_transcript() {
  local utterance wav
  read -r utterance wav <data/$1/wav.scp
  echo "$wav"
  echo "  said:  $(grep "^$utterance " data/$1/text | cut -d ' ' -f 2-)"
  each_training _show_heard
}

_show_heard() { echo "  heard: $(cat "$dir/transcript.txt")"; }

say_dir() { printf '%s\n' "$dir"; }

# write_results: write all error rates with their commands to $dir/RESULTS, also those of the
# decodings in the folder $ensemble, if there is one; print a summary with bootstrap intervals and,
# for several seeds, means and ranges.
write_results() {
  local folders
  mapfile -t folders < <(each_training say_dir)
  python utils/results.py --command "$(recipe_command)" --out "$dir/RESULTS" "${folders[@]}" ${ensemble:+"$ensemble"}
}
