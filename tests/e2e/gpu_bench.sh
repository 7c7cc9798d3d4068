#!/usr/bin/env bash
# The benchmark of the GPU (tests/bench/gpu) on the emulation, in tiny sizes: what it counts, and that nothing it has measured gets lost.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
bench=$BUILD/emulated/gpu_bench

# field FILE SECTION NAME: of the rows of that section
field() { sed -n "s/^{ *\"section\": \"$2\",.*\"$3\": \"\{0,1\}\([^\",}]*\).*/\1/p" "$1"; }

# Every operator of a step is there: their operations, times their calls, are those of the step.
counts_every_operator() {
  run 0 0 "$bench" --tiny --json "$work/bench.json" step_mmca operators
  once 'the GPU is emulated: times and rates mean nothing'
  local step operators
  step=$(field "$work/bench.json" 'step, MMCA' TFLOP)
  operators=$(paste -d ' ' <(field "$work/bench.json" operators calls) <(field "$work/bench.json" operators GFLOP) |
    awk 'NF != 2 { exit 1 } { sum += $1 * $2 } END { printf "%.12g\n", sum / 1000 }')
  awk -v a="$step" -v b="$operators" 'BEGIN { d = a - b; exit !(a > 0 && (d < 0 ? -d : d) <= 1e-9 * a) }' || fail "$step TFLOP in a step, $operators in its operators"
  [ "$(field "$work/bench.json" operators operator | sort -u | wc -l)" -ge 30 ]
  ! field "$work/bench.json" operators ms | grep -vqE '[1-9]' || fail 'an operator has no time'
}

measures_attention() {
  run 0 0 "$bench" --tiny --json "$work/attention.json" attention
  [ "$(field "$work/attention.json" attention mode | sort | tr '\n' ' ')" = 'causal clip mmca perceiver ' ]
}

# On a Hopper every layer has a time of the one product, on others none.
measures_lora() {
  run 0 0 "$bench" --tiny --json "$work/lora.json" lora
  once 'has no product with LoRA'
  [ "$(field "$work/lora.json" 'linear with LoRA' fused_ms | sort -u)" = 0.0 ]
  FACET_EMULATED_CAPABILITY=9.0 run 0 0 "$bench" --tiny --json "$work/hopper.json" lora
  [ "$(field "$work/hopper.json" 'linear with LoRA' fused_ms | grep -cE '[1-9]')" = 5 ]
}

# Killed after its first operators: their rows are whole.
a_kill_loses_nothing() {
  local pid wait
  "$bench" --tiny --json "$work/killed.json" operators >"$work/killed.txt" 2>&1 &
  pid=$!
  for ((wait = 0; wait < 600; ++wait)); do
    if [ "$(grep -c 'patch_rows_forward\|linear_forward' "$work/killed.txt")" -ge 2 ]; then break; fi
    sleep 0.05
  done
  kill -KILL "$pid"
  ! wait "$pid"
  local shown
  shown=$(grep -c '^[a-z_]* .* (.*)' "$work/killed.txt")
  [ "$shown" -ge 2 ]
  [ "$(grep -c '"section": "operators".*}$' "$work/killed.json")" -ge "$shown" ]
}

refuses() {
  refused 64 0 'steps is no option and no section' "$bench" --tiny steps
  refused 64 0 '--layers none is no positive number' "$bench" --layers none
  refused 78 0 'give --tiny' "$bench"
}

check GpuBench.CountsEveryOperatorOfAStep counts_every_operator
check GpuBench.MeasuresAttention measures_attention
check GpuBench.MeasuresLora measures_lora
check GpuBench.AKillLosesNothing a_kill_loses_nothing
check GpuBench.RefusesWhatItCannotDo refuses
finish
