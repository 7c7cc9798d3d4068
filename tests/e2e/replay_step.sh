#!/usr/bin/env bash
# train --replay_step: a step of a run once more, which leaves the run as it is.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# 5 steps, checkpoints at 2, 4 and the end; a NaN is planted in step 3, which was skipped.
out=$work/out
train=("$facet" train "${model[@]}" "${data[@]}" --dataset_samples 8 --learning_rate 2e-3 --lang_lora_dim 4 --seed 7
  --per_device_train_batch_size 2 --max_steps 5 --save_interval 2 --keep_last 9 --inject nan@grad:rank=1,step=3 --output_dir "$out")
make_run() {
  [ ! -d "$out" ] || return 0
  run 0 2 "${train[@]}"
  cp -r "$out" "$work/as_it_was"
}
as_it_was() { diff -r "$work/as_it_was" "$out" || fail 'the run is not as it was'; }

equal_bits() {
  make_run
  run 0 2 "${train[@]}" --replay_step 4
  once "continuing from $out/checkpoints/step_00000002: step 2,"
  grep -qE '^step 3: loss=[^ ]+, as in the log$' "$output"
  grep -qE '^step 4 \(step . of epoch .\), repeated:$' "$output"
  for name in loss grad_norm clip_factor samples lr_decay loss_llava labelled_tokens_coco_caption; do
    grep -qE "^  $name +[^ ]+ +as in the log\$" "$output" || fail "no line of $name"
  done
  [ "$(grep -cE '^  rank [01], micro-batch 1: sample [0-9]+, data set [a-z_]+, record [0-9]+ of .*json' "$output")" = 4 ]
  grep -qE '^  rank .*json, images .*jpg' "$output"
  once 'REPLAY step=4 equal=yes finite=yes'
  as_it_was
}

not_finite() {
  make_run
  run 0 2 "${train[@]}" --replay_step 3
  once 'the step was skipped on all ranks: first number that is not finite: rank 1, '
  once 'REPLAY step=3 equal=yes finite=no'
}

# The newest checkpoint of those before the step that verifies; without one, the beginning.
without_checkpoints() {
  make_run
  cp -r "$work/as_it_was" "$work/bare"
  printf 'x' | dd of="$work/bare/checkpoints/step_00000002/state.h5" bs=1 seek=3000 conv=notrunc status=none
  run 0 2 "${train[@]:0:${#train[@]}-1}" "$work/bare" --replay_step 3
  once "warning: checkpoint $work/bare/checkpoints/step_00000002 is not used: "
  once 'no checkpoint before step 3 can be used (there are: 2, 4, 5): it is repeated from the beginning'
  once 'REPLAY step=3 equal=yes finite=no'
}

# Another split of the same samples is told, and what it changes.
on_one_rank() {
  make_run
  run 0 1 "${train[@]}" --replay_step 5 --gradient_accumulation_steps 2
  once '  2 ranks then, 1 now'
  grep -qE '^  micro_batches +2 +the log has 1$' "$output"
  once 'REPLAY step=5 equal=no finite=yes'
  as_it_was
}

batches() {
  make_run
  run 0 2 "${train[@]}" --replay_step 5 --dump_batches 1
  h5dump -H "$out/step_5.batches.h5" | grep -q '"rank_1"'
  refused 78 2 "step_5.batches.h5 is there already" "${train[@]}" --replay_step 5 --dump_batches 1
  rm "$out/step_5.batches.h5"
  as_it_was
}

mistakes() {
  make_run
  refused 78 2 "--replay_step 6: $out/loss_log.csv has no such step; its last one is 5" "${train[@]}" --replay_step 6
  refused 78 2 "--learning_rate was '0.002', is '0.001'" "${train[@]/2e-3/1e-3}" --replay_step 5
  refused 66 2 "there is no run in $work/none" "${train[@]:0:${#train[@]}-1}" "$work/none" --replay_step 5
  refused 78 0 '--replay_step computes, and --dry_run does not' "${train[@]}" --replay_step 5 --dry_run
  as_it_was
}

check ReplayStep.EqualBits equal_bits
check ReplayStep.NotFinite not_finite
check ReplayStep.WithoutCheckpoints without_checkpoints
check ReplayStep.OnOneRank on_one_rank
check ReplayStep.Batches batches
check ReplayStep.Mistakes mistakes
finish
