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

# What data-stats counts is what training builds, one bad record included; two ranks count the same.
statistics() {
  local set=$work/counted ranks lengths
  cp -r "$tiny/data" "$set"
  sed -i '0,/"caption": "[^"]*"/s//"caption": ""/' "$set/cc_sbu_align/filter_cap.json"
  local sets=("${model[@]}" --data_path "$set" --dataset_names llava_dial minigpt4 --data_train_split_ratio 1)
  run 0 0 "$facet" train "${sets[@]}" --dry_run --data_debug_path "$work/counted_debug"
  # 7 and 3 records; 37 tokens instead of the placeholder of each image
  lengths=$(sed -n 's/^\([0-9]*\) tokens, .*, \([0-9]*\) images$/\1 \2/p' "$work"/counted_debug/sample-*.txt |
    awk '{ print $1 + 36 * $2 }' | sort -n)
  [ "$(wc -l <<<"$lengths")" = 9 ]
  for ranks in 0 2; do
    run 0 "$ranks" "$facet" data-stats "${sets[@]}" --ranks 2 --max_seq_len 100 --stats_svg "$work/lengths-$ranks.svg"
    grep -E '^(bad|data set|llava_dial|minigpt4|mixture|[0-9.]+ %|an epoch)' "$output" >"$work/counted-$ranks"
  done
  cmp "$work/counted-0" "$work/counted-2"
  cmp "$work/lengths-0.svg" "$work/lengths-2.svg"
  once "bad: data set minigpt4, record 0, $set/cc_sbu_align/filter_cap.json: the answer of round 1 is empty"
  once 'data set minigpt4: 1 of 3 samples are left out: 1 with an empty answer'
  read -r _ records samples least median _ _ most _ < <(grep '^mixture ' "$output")
  [ "$records $samples" = '10 10' ]
  [ "$least $median $most" = "$(sed -n '1p;5p;9p' <<<"$lengths" | paste -sd' ')" ]
  once 'an epoch takes 10 samples in 3 steps; a step has 4 samples (2 a micro-batch x 2 ranks x 1 micro-batches); 0 samples are for evaluation'
  grep -q '>--max_seq_len 100<' "$work/lengths-0.svg"
  refused 78 0 'data-stats reads data sets' "$facet" data-stats "${sets[@]}" --replay "$set/cc_sbu_align/filter_cap.json"
}

check DataSets.AllInOneRun all_in_one_run
check DataSets.AsTheOriginal as_the_original
check DataSets.EveryRecordIsGood every_record_is_good
check DataSets.BadImage bad_image
check DataSets.OwnRecords own_records
check DataSets.Statistics statistics
check DataSets.TarShards tar_shards

finish
