#!/usr/bin/env bash
# Every data set, trained on.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

mimic_it=(otter_mimicit_sd otter_mimicit_sn otter_mimicit_tvc otter_mimicit_vst)
all=(llava llava_dial coco_caption minigpt4 aokvqa ocr_vqa otter_mimicit_cgd "${mimic_it[@]}" llava_otter_blend sparkles_dialogue)
train=("$facet" train "${model[@]}" --seed 5 --per_device_train_batch_size 2 --num_train_epochs 1)

# Killed and started again it goes the same way, and does not read the large files of images again.
all_in_one_run() {
  local sets=(--data_path "$tiny/data" --dataset_names "${all[@]}" --save_interval 3 --max_steps 6) code=0
  run 0 2 "${train[@]}" "${sets[@]}" --output_dir "$work/whole"
  once 'SD.json: '
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" "${sets[@]}" --output_dir "$work/cut" --inject kill@step:rank=1,step=5 \
    >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ]
  run 0 2 "${train[@]}" "${sets[@]}" --output_dir "$work/cut"
  once 'continuing from'
  never 'for an index'
  same_columns "$work/whole/loss_log.csv" "$work/cut/loss_log.csv" step samples tokens labelled_tokens loss grad_norm
  echo 'Is it so?' >"$work/phrases"
  refused 78 2 'is of another run' "${train[@]}" "${sets[@]}" --output_dir "$work/cut" --why_phrases_file "$work/phrases"
}

as_the_original() {
  run 0 0 "${train[@]}" --data_path "$tiny/data" --dataset_names "${all[@]}" --compat visualchat --max_steps 3 --output_dir "$work/original"
}

every_record_is_good() {
  run 0 0 "$facet" train --dry_run --check_all_samples "${model[@]}" --data_path "$tiny/data" --dataset_names "${all[@]}" \
    --output_dir "$work/none"
  [ ! -e "$work/none" ]
}

# What is not base64: one error with data set, record and id; with skip it is left out.
bad_image() {
  rm -rf "$work/data"
  cp -r "$tiny/data" "$work/data"
  sed -i 's/"TVC_IMG_000002": "./"TVC_IMG_000002": "!/' "$work/data/MIMIC-IT/TVC.json"
  local sets=(--data_path "$work/data" --dataset_names "${mimic_it[@]}" --data_train_split_ratio 1 --output_dir "$work/bad_image")
  refused 65 2 "data set otter_mimicit_tvc, record 1: $work/data/MIMIC-IT/TVC.json: image TVC_IMG_000002: " "${train[@]}" "${sets[@]}"
  rm -rf "$work/bad_image"
  run 0 2 "${train[@]}" "${sets[@]}" --bad_samples skip --max_bad_fraction 0.1
  cat "$work"/bad_image/bad_samples.rank-*.jsonl >"$work/bad"
  [ "$(wc -l <"$work/bad")" = 1 ]
  grep -q '"dataset": "otter_mimicit_tvc", "records": \[1\]' "$work/bad"
}

# Own records beside a published set, killed and started again: the same numbers, the index is made once, and a changed file is named.
own_records() {
  cp "$tiny/data/llava/conversation_58k.json" "$work/mine.json"
  local sets=(--data_path "$tiny/data" --image_root "$tiny/data/coco/train2017" --dataset_names llava "json:$work/mine.json" --save_interval 2
    --max_steps 4) code=0
  run 0 2 "${train[@]}" "${sets[@]}" --output_dir "$work/own"
  once 'mine.json: '
  head -2 "$work/own/loss_log.csv" | grep -q ',loss_llava,loss_mine,'
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" "${sets[@]}" --output_dir "$work/own_cut" --inject kill@step:rank=1,step=3 \
    >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ]
  run 0 2 "${train[@]}" "${sets[@]}" --output_dir "$work/own_cut"
  once 'continuing from'
  never 'for an index'
  same_columns "$work/own/loss_log.csv" "$work/own_cut/loss_log.csv" step samples tokens labelled_tokens
  echo >>"$work/mine.json"
  refused 78 2 'these data sets have changed: mine' "${train[@]}" "${sets[@]}" --output_dir "$work/own_cut"
}

# Shards and the same records as JSON lines: the same numbers, to the bit. A shard that is not there, or cut off, is named.
tar_shards() {
  local own=$work/shards
  own_samples "$own"
  local sets=(--caption_questions_file "$own/questions.txt" --image_root "$tiny/data/coco/2014")
  run 0 2 "${train[@]}" "${sets[@]}" --dataset_names "tar:$own/own-{0..2}.tar" --output_dir "$own/tar"
  run 0 2 "${train[@]}" "${sets[@]}" --dataset_names "json:$own/own.jsonl" --output_dir "$own/json"
  same_columns "$own/tar/loss_log.csv" "$own/json/loss_log.csv" step samples tokens labelled_tokens loss loss_own grad_norm
  same_columns "$own/tar/eval_log.csv" "$own/json/eval_log.csv" step samples loss
  equal_models "$own/tar/epoch-1" "$own/json/epoch-1"
  truncate -s 3000 "$own/own-2.tar"
  refused 65 2 "$own/own-2.tar: not a sound tar archive" "${train[@]}" "${sets[@]}" --dataset_names "tar:$own/own-{0..2}.tar" --output_dir "$own/cut"
  rm "$own/own-1.tar"
  refused 66 2 "$own/own-1.tar" "${train[@]}" "${sets[@]}" --dataset_names "tar:$own/own-{0..2}.tar" --output_dir "$own/gone"
}

check DataSets.AllInOneRun all_in_one_run
check DataSets.AsTheOriginal as_the_original
check DataSets.EveryRecordIsGood every_record_is_good
check DataSets.BadImage bad_image
check DataSets.OwnRecords own_records
check DataSets.TarShards tar_shards

finish
