#!/usr/bin/env bash
# The program on GPUs, here on the emulation: it trains, is interrupted and resumes, exchanges checkpoints with the program on CPUs,
# evaluates and generates answers; without a GPU it says so. With GPU_PROGRAM, the path of one, on a GPU (scripts/gpu_check.sh).
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# Another path than $facet, so that the program shows the device of a run.
on_gpu=${GPU_PROGRAM:-$BUILD/emulated/facet}
[ -x "$on_gpu" ] || { echo "$on_gpu is missing: make $on_gpu"; exit 1; }

# Two steps of short samples an epoch: the emulation computes one thread after the other.
data=(--data_path "$tiny/data" --dataset_names coco_caption --dataset_samples 5 --data_train_split_ratio 0.8)
recipe=(train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 7 --lang_lora_dim 4 --enable_mmca_attention --gradient_checkpointing
  --per_device_train_batch_size 1 --num_train_epochs 2 --save_interval 1 --keep_last 9)
precision=bf16 stage=2
device_of() { if [ "$1" = "$on_gpu" ]; then echo cuda; else echo cpu; fi; }
# train PROGRAM NAME option...: on 2 ranks.
train() {
  local program=$1 name=$2
  shift 2
  run 0 2 "$program" "${recipe[@]}" --precision "$precision" --zero_stage "$stage" --device "$(device_of "$program")" --output_dir "$work/$name" "$@"
}

image=$(find "$tiny/data/eval/images" -type f | sort | head -n 1)
questions=$work/questions.json
echo '{"one": [["What do you see?", "'"$image"'"], ["And its colour?"]], "text": [{"question": "How are you?", "answers": "zz"}]}' >"$questions"

# The same two steps on GPUs and on CPUs, with a checkpoint after each; on GPUs questions are answered after them.
make_runs() {
  [ ! -d "$work/gpu" ] || return 0
  train "$on_gpu" gpu --max_steps 2 --sample_prompts "$questions" --max_new_tokens 4
  once 'GPU of rank 0: '
  grep -q '"gpu": "[0-9]* .' "$work/gpu/run.json"
  train "$facet" cpu --max_steps 2
}

# farthest FILE FILE NAME: the largest difference.
farthest() {
  paste -d ' ' <(column "$1" "$3") <(column "$2" "$3") | awk '
    NF != 2 { bad = 1 }
    { d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) most = d; rows += 1 }
    END { if (bad || !rows) exit 1; printf "%.17g\n", most }'
}

# In bf16 both differ from fp32, and about alike.
trains_as_the_cpu() {
  make_runs
  precision=fp32 train "$facet" fp32 --max_steps 2
  local name of_gpu of_cpu
  for name in loss grad_norm; do
    of_gpu=$(farthest "$work/fp32/loss_log.csv" "$work/gpu/loss_log.csv" "$name")
    of_cpu=$(farthest "$work/fp32/loss_log.csv" "$work/cpu/loss_log.csv" "$name")
    awk -v a="$of_gpu" -v b="$of_cpu" 'BEGIN { exit !(a > 0 && a <= 2 * b) }' || fail "$name: $of_gpu from fp32, the CPU $of_cpu"
  done
  same_columns "$work/cpu/loss_log.csv" "$work/gpu/loss_log.csv" step epoch micro_batches samples tokens labelled_tokens lr_decay
}

# The layers that the other runs do not have, all trained: perceiver, LoRA in CLIP.
trains_a_perceiver() {
  precision=fp32
  local program name options=(--vis_proj perceiver --vis_lora_dim 4 --max_steps 2)
  for program in "$facet" "$on_gpu"; do
    train "$program" "perceiver_$(device_of "$program")" "${options[@]}"
  done
  for name in loss grad_norm; do
    close_columns "$work/perceiver_cpu/loss_log.csv" "$work/perceiver_cuda/loss_log.csv" "$name" 1e-5
    different_columns "$work/cpu/loss_log.csv" "$work/perceiver_cpu/loss_log.csv" "$name"
  done
}

# from_step_1 RUN NAME PROGRAM option...: resumes from what another run saved in the middle of its epoch.
from_step_1() {
  local run=$1 name=$2 program=$3
  shift 3
  make_runs
  cp -r "$work/$run" "$work/$name"
  rm -r "$work/$name/checkpoints/step_00000002"
  train "$program" "$name" "$@"
  once "continuing from $work/$name/checkpoints/step_00000001:"
}

cut_and_continued() {
  from_step_1 gpu cut "$on_gpu" --max_steps 2
  same_columns "$work/gpu/loss_log.csv" "$work/cut/loss_log.csv" step epoch samples tokens labelled_tokens loss grad_norm clip_factor skipped lr_decay
  run 0 0 "$facet" inspect "$work/gpu" "$work/cut"
  once '0 of '
}

# Gathered for each use, saved in the background, staged through the host, and everything as late as allowed: the same bits.
in_slices() {
  make_runs
  export FACET_EMULATED_STREAMS=late
  local limit=(--stage3_param_persistence_threshold 100)
  stage=3 train "$on_gpu" slices --max_steps 2 "${limit[@]}" --async_checkpoint --device_collectives mpi
  once 'staged through host memory, as asked for'
  same_columns "$work/gpu/loss_log.csv" "$work/slices/loss_log.csv" step loss grad_norm clip_factor skipped lr_decay
  run 0 0 "$facet" inspect "$work/gpu" "$work/slices"
  once '0 of '
  stage=0 from_step_1 slices whole "$on_gpu" --max_steps 2
  same_columns "$work/gpu/loss_log.csv" "$work/whole/loss_log.csv" step loss grad_norm clip_factor skipped lr_decay
}

# What one program saved the other reads and saves again, to the bit.
saved_again() { # RUN PROGRAM
  from_step_1 "$1" "$1.again" "$2" --max_steps 1
  # One has been evaluated since, so their fields differ.
  run 1 0 "$facet" inspect "$work/$1/checkpoints/step_00000001" "$work/$1.again/checkpoints/step_00000001"
  grep -q '^0 of ' "$output"
}

# Both take the same step from a checkpoint of GPUs, but for the rounding of fp32.
goes_on_from_it() {
  precision=fp32
  from_step_1 gpu gpu.by_gpu "$on_gpu" --max_steps 2
  from_step_1 gpu gpu.by_cpu "$facet" --max_steps 2
  close_columns "$work/gpu.by_gpu/loss_log.csv" "$work/gpu.by_cpu/loss_log.csv" loss 1e-5
  close_columns "$work/gpu.by_gpu/loss_log.csv" "$work/gpu.by_cpu/loss_log.csv" grad_norm 1e-5
  different_columns "$work/gpu/loss_log.csv" "$work/gpu.by_gpu/loss_log.csv" loss
}

# The choices of the first step are kept, although others would be faster when the run goes on, unless they are of another library.
timed_products() {
  make_runs
  train "$on_gpu" timed --max_steps 2 --product_algorithms timed
  grep -qE '[1-9][0-9]* matrix products were timed' "$output"
  different_columns "$work/gpu/loss_log.csv" "$work/timed/loss_log.csv" loss
  export FACET_EMULATED_FASTEST=4
  from_step_1 timed timed.cut "$on_gpu" --max_steps 2 --product_algorithms timed
  never 'matrix products were timed'
  same_columns "$work/timed/loss_log.csv" "$work/timed.cut/loss_log.csv" step loss grad_norm clip_factor
  run 0 0 "$facet" inspect "$work/timed" "$work/timed.cut"
  once '0 of '
  FACET_EMULATED_CUBLASLT=130100 from_step_1 timed timed.anew "$on_gpu" --max_steps 2 --product_algorithms timed
  once 'the ways of matrix products are chosen anew'
  different_columns "$work/timed/loss_log.csv" "$work/timed.anew/loss_log.csv" loss
}

with_rank_8() { recipe=("${recipe[@]/%4/8}"); }

# LoRA inside the products of a Hopper, forward and backward: other bits than those of the separate operators, from which they are as far as
# bf16 rounds. Where it is the faster way the run takes it by itself, and when it goes on again, although the other one would be faster then.
fused_lora() {
  export FACET_EMULATED_CAPABILITY=9.0
  with_rank_8
  local way name
  for way in separate fused timed timed.cut; do
    if [ "$way" = timed.cut ]; then
      cp -r "$work/lora.timed" "$work/lora.timed.cut"
      rm -r "$work/lora.timed.cut/checkpoints/step_00000002"
      export FACET_EMULATED_WGMMA_MS=1
    fi
    run 0 0 "$on_gpu" "${recipe[@]}" --precision bf16 --device cuda --output_dir "$work/lora.$way" --max_steps 2 --lora_products "${way%.cut}"
  done
  once "continuing from $work/lora.timed.cut/checkpoints/step_00000001:"
  never 'matrix products were timed'
  for name in loss grad_norm; do
    close_columns "$work/lora.separate/loss_log.csv" "$work/lora.fused/loss_log.csv" "$name" 4e-3
  done
  different_columns "$work/lora.separate/loss_log.csv" "$work/lora.fused/loss_log.csv" grad_norm
  same_columns "$work/lora.fused/loss_log.csv" "$work/lora.timed/loss_log.csv" step loss grad_norm clip_factor
  same_columns "$work/lora.timed/loss_log.csv" "$work/lora.timed.cut/loss_log.csv" step loss grad_norm clip_factor
  run 0 0 "$facet" inspect "$work/lora.timed" "$work/lora.timed.cut"
  once '0 of '
}

fused_lora_elsewhere() {
  with_rank_8
  refused 78 2 'needs a GPU of compute capability 9.0' "$on_gpu" "${recipe[@]}" --max_steps 1 --output_dir "$work/none" --device cuda \
    --precision bf16 --lora_products fused
}

joint_attention_elsewhere() {
  export FACET_EMULATED_CAPABILITY=8.6
  refused 78 2 'joint needs a GPU with 157 KiB of shared memory for a block' "$on_gpu" "${recipe[@]}" --max_steps 1 --output_dir "$work/none" --device cuda \
    --precision bf16 --attention_backward joint
}

exported() {
  echo --lm_model_name_or_path "$work/cpu/epoch-1/lang_decoder" --vision_model_name_or_path "$work/cpu/epoch-1/vis_encoder" --threads 1 \
    --enable_mmca_attention
}

# All-reduces of tensors on GPUs; ranks that share one can't use NCCL.
bandwidth() {
  run 0 2 "$on_gpu" bandwidth --device cuda --threads 1 --all_reduce_mib 0.01 --repeats 1
  grep -qE '^BANDWIDTH by=(nccl|mpi-staged) of=all ranks=2 bytes=10488 ' "$output"
}

evaluates() {
  local program loss=()
  make_runs
  for program in "$facet" "$on_gpu"; do
    # shellcheck disable=SC2046
    run 0 2 "$program" evaluate $(exported) "${data[@]}" --seed 7 --device "$(device_of "$program")"
    loss+=("$(grep -o 'eval: loss=[^,]*' "$output" | cut -d= -f2)")
  done
  awk -v a="${loss[0]}" -v b="${loss[1]}" 'BEGIN { d = a - b; exit !(a > 0 && (d < 0 ? -d : d) <= 1e-5 * a) }' ||
    fail "the CPU's loss is ${loss[0]}, the GPU's ${loss[1]}"
}

# A batch that two ranks share on GPUs, compared with right answers.
answers() {
  make_runs
  # shellcheck disable=SC2207
  local asking=(generate $(exported) --input "$questions" --max_new_tokens 8)
  run 0 0 "$facet" "${asking[@]}" --output "$work/cpu.csv"
  run 0 2 "$on_gpu" "${asking[@]}" --output "$work/cuda.csv" --device cuda --decode_batch 2 --inference_tp_size 2
  cmp "$work/cpu.csv" "$work/cuda.csv"
  cmp "$work/cpu.csv.metrics.json" "$work/cuda.csv.metrics.json"
  grep -qE '[a-z]{3,}' <(tail -n 1 "$work/cuda.csv" | cut -d, -f4)
}

# What a run answered after its last step are the answers of its checkpoint, to a file of questions and to what is typed.
answers_of_a_checkpoint() {
  local of_it=(--checkpoint_names "$work/gpu" --threads 1 --device cuda --precision "$precision" --max_new_tokens 4)
  make_runs
  printf '%s\n' "$image" 'What do you see?' na 'And its colour?' clear na 'How are you?' |
    "$on_gpu" chat "${of_it[@]}" --history "$work/talk.json" >"$work/talk.txt" 2>&1
  run 0 0 "$on_gpu" generate "${of_it[@]}" --input "$questions" --output "$work/stored.jsonl"
  [ "$(answers_in "$work/stored.jsonl" | wc -l)" = 3 ]
  diff <(answers_in "$work/gpu/samples.jsonl") <(answers_in "$work/stored.jsonl")
  diff <(answers_in "$work/talk.json.answers.jsonl") <(answers_in "$work/stored.jsonl")
}
answers_in() { grep -oE '"question": ?.*"tokens": ?[0-9]+' "$1"; }

# The same words about the same number on both.
not_finite() {
  local program
  for program in "$facet" "$on_gpu"; do
    train "$program" "nan_$(device_of "$program")" --max_steps 2 --inject 'nan@grad:rank=1,step=1'
    grep 'first number that is not finite' "$output" >"$work/found_on_$(device_of "$program")"
  done
  grep -q 'rank 1, micro-batch 1 of 1, layer lang_decoder.*: gradient of lang_decoder.*lora_right_weight, element 0 ' "$work/found_on_cuda"
  diff "$work/found_on_cpu" "$work/found_on_cuda"
}

# A rank stops after its backward, with its part of the last exchange in its GPU's queue. The other one's host, which could continue, waits for
# its GPU, knows in which collective that waits, and says so.
hangs_by_name() {
  export FACET_EMULATED_STREAMS=late
  run 86 2 "$on_gpu" "${recipe[@]}" --precision bf16 --zero_stage 2 --device cuda --output_dir "$work/hung" --max_steps 1 \
    --inject stop@compute:rank=1,step=1 --hang_seconds_compute 20
  once '1 of 2 ranks behind:'
  grep -qE '^  rank 1 \(host [^ ]+, pid [0-9]+, stopped\): .* in compute of step 1; ' "$output"
  grep -qE '^  rank 0: waiting in collective [0-9]+ \(reduce_scatter\), compute of step 1$' "$output" || fail "$(grep -A 4 hang: "$output")"
}

# Features go to the disk and come back: the same bits without the vision encoder.
keeps_features() {
  run 0 2 "$on_gpu" cache-features "${recipe[@]:1}" --precision "$precision" --device cuda --feature_cache "$work/features"
  once 'FEATURES images=5 hits=0 computed=5 '
  train "$on_gpu" by_image --vision_image_by_image --max_steps 1
  train "$on_gpu" kept --feature_cache "$work/features" --max_steps 1
  grep -q 'feature cache: [1-9][0-9]* images given, 0 computed' "$output"
  same_columns "$work/by_image/loss_log.csv" "$work/kept/loss_log.csv" step loss grad_norm
}

# offloaded NAME option...: with the optimizer on the host, everything as late as allowed, and no more memory than planned
offloaded() {
  FACET_EMULATED_STREAMS=late train "$on_gpu" "$@" --offload_optimizer cpu
  sed -n -E 's/.*the arenas of a rank held ([0-9]+) bytes at most; planned: ([0-9]+).*/\1 \2/p' "$output" |
    awk '{ lines += 1; if ($1 > $2) exit 2 } END { exit lines != 1 }'
}
same_run() {
  same_columns "$work/$1/loss_log.csv" "$work/$2/loss_log.csv" step loss grad_norm clip_factor skipped lr_decay
  run 0 0 "$facet" inspect "$work/$1" "$work/$2"
  once '0 of '
}

# The host takes the steps: the same bits, saved straight from there, at every stage; with it and without it from each other's checkpoints.
offloads_the_optimizer() {
  make_runs
  offloaded on_host --max_steps 2 --async_checkpoint
  same_run gpu on_host
  stage=3 from_step_1 gpu to_host "$on_gpu" --max_steps 2 --offload_optimizer cpu --stage3_param_persistence_threshold 100
  same_run gpu to_host
  stage=1 from_step_1 on_host from_host "$on_gpu" --max_steps 2
  same_run gpu from_host
}

# The slices too, of which a part is on every rank; begun without, cut and gone on with it.
offloads_the_parameters() {
  make_runs
  stage=3
  local slices=(--offload_optimizer cpu --offload_param cpu --stage3_param_persistence_threshold 100)
  offloaded slices_on_host --max_steps 2 "${slices[@]:2}"
  same_run gpu slices_on_host
  from_step_1 gpu slices_to_host "$on_gpu" --max_steps 2 "${slices[@]}"
  same_run gpu slices_to_host
}

# In fp16 on one rank, which owns everything; the second of three steps is skipped.
offloads_with_an_overflow() {
  local name to storm=(--precision fp16 --zero_stage 3 --initial_scale_power 10 --max_steps 3 --inject 'nan@grad:rank=0,step=2')
  for name in overflow overflow.on_host; do
    to=$([ "$name" = overflow ] && echo none || echo cpu)
    FACET_EMULATED_STREAMS=late run 0 1 "$on_gpu" "${recipe[@]}" "${storm[@]}" --device cuda --output_dir "$work/$name" \
      --offload_optimizer "$to" --offload_param "$to"
    [ "$(column "$work/$name/loss_log.csv" skipped | tr '\n' ' ')" = '0 1 0 ' ]
  done
  same_run overflow overflow.on_host
}

# What passes through the rings (64 MiB each) and the inbox is there, and the state is too much.
offloads_too_much() {
  FACET_EMULATED_PAGE_LOCKED=$(((129 << 20) + (64 << 10))) refused 78 2 'without --offload_optimizer cpu' \
    "$on_gpu" "${recipe[@]}" --precision bf16 --zero_stage 2 --device cuda --offload_optimizer cpu --output_dir "$work/too_much"
}

without_a_gpu() {
  local text='this program was built without CUDA'
  if grep -q 'no GPU can be used here' "$facet"; then text='no GPU can be used here'; fi
  local ranks
  for ranks in 0 2; do
    CUDA_VISIBLE_DEVICES='' refused 78 "$ranks" "$text" "$facet" "${recipe[@]}" --device cuda --output_dir "$work/none"
  done
}

without_cudnn() {
  refused 78 2 'this program was built without cuDNN' "$on_gpu" train "${model[@]}" "${data[@]}" --max_steps 1 --output_dir "$work/none" \
    --precision bf16 --device cuda --attention cudnn
}

check Cuda.TrainsAsTheCpu trains_as_the_cpu
check Cuda.TrainsAPerceiver trains_a_perceiver
check Cuda.CutAndContinued cut_and_continued
check Cuda.InSlicesTheBitsAreTheSame in_slices
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.TimedProductsAreKept timed_products
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.FusedLora fused_lora
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.FusedLoraElsewhere fused_lora_elsewhere
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.JointAttentionElsewhere joint_attention_elsewhere
check Cuda.ReadsTheCpusCheckpoint saved_again cpu "$on_gpu"
check Cuda.TheCpuReadsItsCheckpoint saved_again gpu "$facet"
check Cuda.BothGoOnFromItsCheckpoint goes_on_from_it
check Cuda.Evaluates evaluates
check Cuda.Answers answers
check Cuda.AnswersOfACheckpoint answers_of_a_checkpoint
check Cuda.Bandwidth bandwidth
check Cuda.NotFiniteIsFound not_finite
check Cuda.HangsByName hangs_by_name
check Cuda.KeepsFeatures keeps_features
check Cuda.OffloadsTheOptimizer offloads_the_optimizer
check Cuda.OffloadsTheParameters offloads_the_parameters
check Cuda.OffloadsWithAnOverflow offloads_with_an_overflow
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.OffloadsTooMuch offloads_too_much
check Cuda.WithoutAGpu without_a_gpu
[ -n "${GPU_PROGRAM:-}" ] || check Cuda.WithoutCudnn without_cudnn
finish
