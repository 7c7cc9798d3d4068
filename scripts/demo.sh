#!/usr/bin/env bash
# The demo: draws scenes, trains a small CLIP + projection + LLaMA from scratch on 2 ranks, draws the loss curve, and writes
# captions for scenes whose combinations of colour, shape and place never occur in training; then the same with the
# images shuffled among the questions, which shows how much of it is guessing.
# usage: demo.sh [BUILD] ; SEED=N changes the scenes, the weights and the order
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
seed=${SEED:-1}
demo=$build/demo
run=$demo/run
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

rm -rf "$demo"
mkdir -p "$demo"
"$build/make_tiny" --output "$demo/tiny" --seed "$seed"

# Open MPI would bind each of two ranks to one core.
export OMPI_MCA_hwloc_base_binding_policy=none
epochs=8
"${MPIRUN:-mpirun}" -n 2 --oversubscribe "$build/facet" train \
  --lm_model_name_or_path "$demo/tiny/lm" --vision_model_name_or_path "$demo/tiny/clip" \
  --data_path "$demo/tiny/data" --dataset_names llava llava_dial coco_caption \
  --unfreeze vis_encoder. lang_decoder. --max_seq_len 512 --steps_per_print 100 \
  --learning_rate 1e-3 --num_warmup_steps 0.05 --per_device_train_batch_size 8 --per_device_eval_batch_size 16 \
  --num_train_epochs "$epochs" --seed "$seed" --output_dir "$run"

# Captions of the scenes in $1 into $2.
caption() {
  "$build/facet" generate --lm_model_name_or_path "$run/epoch-$epochs/lang_decoder" \
    --vision_model_name_or_path "$run/epoch-$epochs/vis_encoder" --input "$1" --output "$2" >"$demo/generate.log"
}
caption "$demo/tiny/data/eval/held_out.json" "$demo/captions.csv"
caption "$demo/tiny/data/eval/held_out_shuffled.json" "$demo/captions_blind.csv"

# "right answers" of a CSV against captions.json (one "name": "caption" a line): the count, then the number of questions.
score() {
  awk '
    FNR == NR { if (split($0, part, "\"") == 5) right[part[2]] = part[4]; next }
    FNR > 1 { name = $0; sub(/,.*/, "", name); answer = $0; sub(/.*,/, "", answer); ++n; exact += answer == right[name] }
    END { print exact + 0, n }' "$demo/tiny/data/eval/captions.json" "$1"
}

echo
echo "a few captions of scenes never seen in training:"
awk -F, 'NR > 1 && NR <= 9 { printf "  %-50s %s\n", $2, $NF }' "$demo/captions.csv"
echo "the loss curve: $run/loss_curve.svg"
read -r exact total < <(score "$demo/captions.csv")
read -r blind _ < <(score "$demo/captions_blind.csv")
awk -F, -v exact="$exact" -v blind="$blind" -v total="$total" '
  /^[0-9]/ { if (first == "") first = $5; last = $5 }
  END { printf "demo: eval loss %.4g -> %.4g, captions exact %d of %d, blind %d of %d\n", first, last, exact, total, blind, total }
' "$run/eval_log.csv"
