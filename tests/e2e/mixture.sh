#!/usr/bin/env bash
# All kinds of data sets in one run: it continues at every step with the same bits, has the same samples and losses on any number of ranks,
# and notices files that have changed since.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# Three samples of each published set, of own records and of shards with PNG and JPEG images: 45, 12 a step, so two epochs are 8 steps.
own_samples "$work/own"
sets=(llava llava_dial coco_caption minigpt4 aokvqa ocr_vqa otter_mimicit_cgd otter_mimicit_sd otter_mimicit_sn otter_mimicit_tvc
  otter_mimicit_vst llava_otter_blend sparkles_dialogue)
write_config() { # FILE WEIGHT...: without weights, or with each set's
  local file=$1 set
  shift
  {
    for set in "${sets[@]}"; do
      echo "{\"type\": \"$set\", \"samples\": 3${1:+, \"weight\": $1}},"
      [ $# = 0 ] || shift
    done
    echo "{\"type\": \"json\", \"paths\": \"own.jsonl\", \"image_root\": \"$tiny/data/coco/2014\", \"samples\": 3${1:+, \"weight\": $1}},"
    echo "{\"type\": \"tar\", \"name\": \"shards\", \"paths\": \"own-{0..2}.tar\", \"samples\": 3${2:+, \"weight\": $2}, \"system\": \"Look.\"}"
  } | sed -e '1s/^/[/' -e '$s/$/]/' >"$file"
}
write_config "$work/own/even.json"
write_config "$work/own/shares.json" 1 2 1 2 1 2 1 2 1 2 1 2 1 2 3
recipe=("$facet" train "${model[@]}" --data_train_split_ratio 1 --num_train_epochs 2 --max_seq_len 512 --learning_rate 2e-3 --seed 11)
even=(--data_path "$tiny/data" --data_config "$work/own/even.json")
shares=(--data_path "$tiny/data" --data_config "$work/own/shares.json" --tokens_per_micro_batch 400)
counts=(step epoch samples tokens labelled_tokens)
for set in "${sets[@]}" own shards; do counts+=("labelled_tokens_$set"); done

# train_into NAME RANKS option...
train_into() {
  local name=$1 ranks=$2
  shift 2
  [ -d "$work/$name" ] || run 0 "$ranks" "${recipe[@]}" "$@" --per_device_train_batch_size $((12 / ranks)) --output_dir "$work/$name"
}

# Stopped after every step and started again for the next; at an epoch's end also before its export.
resumes_at_every_step() { # NAME option...
  local name=$1 step again
  shift
  train_into "$name" 2 "$@"
  [ "$(rows "$work/$name/loss_log.csv")" = 8 ]
  again=("${recipe[@]}" "$@" --per_device_train_batch_size 6 --output_dir "$work/$name.cut")
  for step in 1 2 3 4 4 5 6 7; do
    run 85 2 "${again[@]}" --max_hours 1e-9
    once "stopping at step $step for the time limit"
  done
  run 0 2 "${again[@]}"
  once "continuing from $work/$name.cut/checkpoints/step_00000007"
  never 'for an index'
  never 'has changed'
  same_columns "$work/$name/loss_log.csv" "$work/$name.cut/loss_log.csv" "${counts[@]}" micro_batches loss grad_norm clip_factor loss_llava \
    loss_own loss_shards
  equal_models "$work/$name/epoch-1" "$work/$name.cut/epoch-1"
  equal_models "$work/$name/epoch-2" "$work/$name.cut/epoch-2"
}

other_rank_counts() {
  local ranks kind options
  for kind in even shares; do
    local -n options=$kind
    train_into "$kind" 2 "${options[@]}"
    for ranks in 1 3 4; do
      train_into "$kind.$ranks" "$ranks" "${options[@]}"
      same_columns "$work/$kind/loss_log.csv" "$work/$kind.$ranks/loss_log.csv" "${counts[@]}"
      close_columns "$work/$kind/loss_log.csv" "$work/$kind.$ranks/loss_log.csv" loss 1e-5
      close_columns "$work/$kind/loss_log.csv" "$work/$kind.$ranks/loss_log.csv" grad_norm 1e-4
    done
  done
}

# Files that were copied have other times: where all of a file is hashed that is no matter, of the others it is told. Other content is refused
# and named.
changed_files() {
  train_into even 2 "${even[@]}"
  local moved=$work/moved file
  mkdir "$moved"
  cp -r "$tiny/data" "$work/own" "$moved"
  cp -r "$work/even" "$moved/run"
  tr '\n' ' ' <"$work/own/even.json" >"$moved/own/even.json"
  local again=("${recipe[@]}" --data_path "$moved/data" --data_config "$moved/own/even.json" --per_device_train_batch_size 12
    --output_dir "$moved/run")
  run 0 0 "${again[@]}"
  once 'all 8 steps are done'
  [ "$(grep -c 'its size or time has changed since the checkpoint' "$output")" = 7 ]
  for file in data/MIMIC-IT/{SD,SN,TVC,VST}.json own/own-{0,1,2}.tar; do once "$moved/$file: its size or time"; done
  printf '\377' | dd of="$moved/run/image_index/own.index" bs=1 seek=70 conv=notrunc status=none
  run 0 0 "${again[@]}"
  once "own.jsonl: its index $moved/run/image_index/own.index is damaged"
  never 'the file has changed since'

  sed -i 's/"value": "a /"value": "one /' "$moved/data/llava/conversation_58k.json"
  sed -i '$s/}$/, "another": "Zg=="}/' "$moved/data/MIMIC-IT/SD.json"
  echo >>"$moved/own/own.jsonl"
  cp "$moved/own/own-2.tar" "$moved/own/own-1.tar"
  refused 78 2 "these data sets have changed: llava_dial ($moved/data/llava/conversation_58k.json), otter_mimicit_sd ($moved/data/MIMIC-IT/SD.json)" \
    "${again[@]}"
  once "llava_otter_blend ($moved/data/llava/conversation_58k.json), own ($moved/own/own.jsonl), shards ($moved/own/own-1.tar)"
}

# What decides of a changed --data_config is what it says.
changed_config() {
  train_into even 2 "${even[@]}"
  train_into shares 2 "${shares[@]}"
  local changed=$work/own/changed.json
  local again=("${recipe[@]}" --data_path "$tiny/data" --data_config "$changed" --per_device_train_batch_size 12)
  sed 's/"samples": 3/"samples": 2/' "$work/own/even.json" >"$changed"
  refused 78 0 "choice of samples, prompt texts or tokenizer (--data_config $changed)" "${again[@]}" --output_dir "$work/even"
  sed 's/Look/See/' "$work/own/even.json" >"$changed"
  refused 78 0 "these data sets have changed: shards (its system text) (--data_config $changed)" "${again[@]}" --output_dir "$work/even"
  sed 's/"weight": 3/"weight": 4/' "$work/own/shares.json" >"$changed"
  refused 78 0 "choice of samples, prompt texts or tokenizer (--data_config $changed)" "${again[@]}" --output_dir "$work/shares"
}

check Mixture.ResumesAtEveryStep resumes_at_every_step even "${even[@]}"
check Mixture.ResumesAtEveryStepBySharesAndTokens resumes_at_every_step shares "${shares[@]}"
check Mixture.OtherRankCounts other_rank_counts
check Mixture.ChangedFiles changed_files
check Mixture.ChangedConfig changed_config
finish
