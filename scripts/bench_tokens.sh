#!/usr/bin/env bash
# Samples a second of --tokens_per_micro_batch beside micro-batches of equally many samples: 2 ranks, one thread each, a mixture of seven
# short captions to one long dialogue. Both take the same steps, in turns. usage: bench_tokens.sh [steps] [rounds]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
steps=${1:-10}
rounds=${2:-3}
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/make_tiny" --output "$work/tiny" --scenes 24 --seed 1 >"$work/log"

# Captions of some 60 tokens, dialogues of 150 to 600 and more; an image of 36 rows in each.
awk -v count=$((32 * (steps + 2))) 'BEGIN {
  srand(1)
  split("red green blue purple square circle cross triangle small large left right", words, " ")
  for (i = 0; i < count; ++i) {
    rounds = rand() < 1 / 8 ? 6 + int(19 * rand()) : 1
    printf "{\"image\": \"%012d.jpg\", \"conversations\": [", int(rand() * 12)
    for (r = 0; r < rounds; ++r) {
      printf "%s{\"from\": \"human\", \"value\": \"%sWhat is it?\"}, {\"from\": \"gpt\", \"value\": \"", r ? ", " : "", r ? "" : "<image>\\n"
      for (w = 0; w < 8; ++w) printf "%s%s", w ? " " : "", words[1 + int(rand() * 12)]
      printf "\"}"
    }
    print "]}"
  }
}' >"$work/skewed.jsonl"

# Wide LoRA makes the products dominate a step of the tiny model, as they do in a large one.
train() { # OUT option...
  local out=$1
  shift
  mpirun -n 2 --oversubscribe "$build/facet" train --lm_model_name_or_path "$work/tiny/lm" --vision_model_name_or_path "$work/tiny/clip" --threads 1 \
    --dataset_names "json:$work/skewed.jsonl" --image_root "$work/tiny/data/coco/train2017" --data_train_split_ratio 1 --num_train_epochs 1 \
    --lang_lora_dim 512 --learning_rate 1e-4 --max_seq_len 1024 --zero_stage 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 8 \
    --save_interval 1000 --max_steps $((steps + 2)) \
    --output_dir "$out" "$@" >"$work/log" 2>&1 </dev/null || { tail -n 20 "$work/log"; exit 1; }
}
# The first two steps, which warm up, are left out.
samples_per_second() { # OUT
  awk -F, '/^#/ { next } !at { for (i = 1; i <= NF; ++i) column[$i] = i; at = 1; next }
    $column["step"] > 2 { samples += $column["samples"]; seconds += $column["seconds"] }
    END { print samples / seconds }' "$1/loss_log.csv"
}
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for ((round = 1; round <= rounds; ++round)); do
  train "$work/samples_$round"
  samples_per_second "$work/samples_$round" >>"$work/by_samples"
  train "$work/tokens_$round" --tokens_per_micro_batch 1024
  samples_per_second "$work/tokens_$round" >>"$work/by_tokens"
done
paste "$work/by_samples" "$work/by_tokens" | awk '{ print $2 / $1 }' >"$work/ratios"
printf 'skewed mixture on 2 ranks: %.1f samples/s by samples, %.1f by tokens; ratio of a round %.2f (median of %d)\n' \
  "$(median <"$work/by_samples")" "$(median <"$work/by_tokens")" "$(median <"$work/ratios")" "$rounds"
