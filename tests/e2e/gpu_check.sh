#!/usr/bin/env bash
# The verdicts of scripts/gpu_check.sh and scripts/gpu_run_all.sh, with stubs in the place of the programs and of compute-sanitizer.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

stubs=$work/stubs
mkdir -p "$stubs/build/gpu" "$stubs/bin"
cat >"$stubs/program" <<'END'
#!/usr/bin/env bash
if [ -n "${NO_GPU:-}" ]; then echo 'no GPU can be used here' >&2; exit 1; fi
echo 'GPU 0: a stub'
if [ -n "${NO_TESTS:-}" ]; then exit 0; fi
echo '[       OK ] Suite.Name (1 ms)'
if [ -n "${RED:-}" ] && [ "$1" = "--gtest_filter=-*TwoRanks*" ]; then echo '[  FAILED  ] Suite.Other (1 ms)'; exit 1; fi
END
cat >"$stubs/bin/compute-sanitizer" <<'END'
#!/usr/bin/env bash
case "$*" in
  *PlantedFor*) exit "${PLANTED:-9}" ;;
  *"${BAD:-nothing}"*) echo '========= a finding'; exit 9 ;;
esac
echo '[       OK ] Suite.Name (1 ms)'
END
chmod +x "$stubs/program" "$stubs/bin/compute-sanitizer"
for program in gpu/test_kernels gpu/test_curves; do cp "$stubs/program" "$stubs/build/$program"; done

# checked CODE VARIABLE=value...: all steps but that of the program, which is a test of its own.
checked() {
  local code=$1
  shift
  run "$code" 0 env BUILD="$stubs/build" PATH="$stubs/bin:$PATH" STEPS="kernels curves memcheck racecheck initcheck synccheck" "$@" \
    scripts/gpu_check.sh "$work/logs"
}

all_pass() {
  checked 0
  once '6 of 6 steps passed'
}
a_red_test() {
  checked 1 RED=1
  once '  [  FAILED  ] Suite.Other (1 ms)'
  once '5 of 6 steps passed'
}
no_test() {
  checked 1 NO_TESTS=1 STEPS=curves
  once '0 of 1 steps passed'
}
no_time_left() {
  checked 1 LIMIT=0
  once '0 of 6 steps passed'
}
a_finding() {
  checked 1 BAD=racecheck
  once '  ========= a finding'
  once '5 of 6 steps passed'
}
a_blind_tool() {
  checked 1 PLANTED=0
  once 'initcheck ended with 0 for a kernel with a bug, not with 9'
  once '2 of 6 steps passed'
}
a_missing_program() {
  checked 1 STEPS="kernels program"
  once "$stubs/build/facet is missing: make gpu-tests cuda"
  never step
}
without_a_gpu() {
  checked 1 NO_GPU=1
  once 'no GPU can be used here'
  never step
}

# A bundle whose programs are stubs: `facet` writes losses, those of SLOW take too long.
make_stub_bundle() {
  [ ! -d "$work/all" ] || return 0
  mkdir -p "$work/all/scripts" "$work/all/build/gpu"
  cp scripts/gpu_run_all.sh "$work/all/scripts/"
  cd "$work/all"
  touch bundle_launch.sh
  cat >build/facet <<'END'
#!/usr/bin/env bash
while [ $# -gt 0 ]; do case $1 in --device) device=$2 ;; --output_dir) out=$2 ;; esac; shift; done
last=0.5
if [ "$device" = cuda ]; then last=${LAST:-0.50001}; fi
printf '# a run\nstep,epoch,loss\n1,1,2\n2,1,1.5\n3,1,1\n4,1,%s\n' "$last" >"$out/loss_log.csv"
END
  cat >build/gpu/gpu_bench <<'END'
#!/usr/bin/env bash
echo "measures ${*: -1}"
if [ "${*: -1}" = "${SLOW:-none}" ]; then sleep 20; fi
END
  printf '#!/usr/bin/env bash\necho "tests: $STEPS"\n' >scripts/gpu_check.sh
  echo 'print("torch")' >scripts/bench_torch_gpu.py
  chmod +x build/facet build/gpu/gpu_bench scripts/gpu_check.sh
}
run_all() {
  local code=$1
  shift
  make_stub_bundle
  run "$code" 0 env "$@" "$work/all/scripts/gpu_run_all.sh" "$work/all/logs"
}
everything_runs() {
  run_all 0 LIMIT=100
  once 'loss on the CPU 0.5 and on the GPU 0.50001'
  once 'measures step_mmca'
  once 'tests: kernels curves'
  once '0 steps failed'
}
other_losses() {
  run_all 1 LIMIT=100 LAST=0.5001
  once '1 steps failed'
}
a_slow_step() {
  run_all 1 LIMIT=6 SLOW=operators
  once 'measures step_mmca'
  once 'measures operators'
  never 'measures attention'
  once '7 steps failed or got no time'
}

check GpuCheck.AllStepsPass all_pass
check GpuCheck.ARedTestIsNamed a_red_test
check GpuCheck.NoTestIsNoSuccess no_test
check GpuCheck.WithoutTimeNothingPasses no_time_left
check GpuCheck.AFindingOfATool a_finding
check GpuCheck.AToolThatSeesNothingIsNotBelieved a_blind_tool
check GpuCheck.AMissingProgramIsNamed a_missing_program
check GpuCheck.WithoutAGpuNothingRuns without_a_gpu
check GpuRunAll.EveryStepRuns everything_runs
check GpuRunAll.OtherLossesThanTheCpus other_losses
check GpuRunAll.WhatASlowStepLeavesNoTimeFor a_slow_step
finish
