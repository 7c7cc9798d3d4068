#!/usr/bin/env bash
# Bundles (scripts/gpu_bundle.sh): moved elsewhere, on a system that has the C library and a shell and else nothing, their programs run and
# compute what the installed ones do; the libraries of CUDA, which are not in them, are found or named. The programs here are those of this
# build, on the CPU.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

bundle=$work/bundle
make_bundle() {
  [ ! -d "$bundle" ] || return 0
  NO_ARCHIVE=1 scripts/gpu_bundle.sh "$bundle" facet="$facet" make_tiny="$BUILD/make_tiny" >"$output" 2>&1 || { cat "$output"; fail 'no bundle'; }
}

# A root directory with a shell, what bundle_launch.sh calls, and their libraries.
bare=$work/bare
make_bare_root() {
  local tools tool
  mkdir -p "$bare"/{bin,tmp,proc,dev,opt,cuda/lib64}
  ln -s . "$bare/usr"
  tools=(/bin/sh $(type -P readlink dirname basename ls tr sort mkdir))
  for tool in "${tools[@]}"; do cp -L "$tool" "$bare/bin/"; done
  ldd "${tools[@]}" | grep -oE '/[^ ]+' | grep -v ':$' | sort -u | xargs cp -L --parents -t "$bare"
  for tool in libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 libutil.so.1; do # of the C library
    cp -L "$(ldconfig -p | awk -v name="$tool" '$1 == name { print $NF; exit }')" "$bare/lib/"
  done
  cp -r "$bundle" "$bare/opt/elsewhere"
}
# "$work/in_bare_root" DIRECTORY command...: of CUDA's libraries it has that directory, in /cuda/lib64; "" for none
cat >"$work/in_bare_root" <<END
#!/usr/bin/env bash
set -e
[ -n "\${INSIDE:-}" ] || INSIDE=yes exec unshare --user --map-root-user --mount "\$0" "\$@"
mount --rbind /proc "$bare/proc" && mount --rbind /dev "$bare/dev"
if [ -n "\$1" ]; then mount --bind "\$1" "$bare/cuda/lib64"; fi
PATH=\$PATH:/usr/sbin:/sbin
chroot=\$(type -P chroot)
CUDA_HOME=/cuda PATH=/bin exec "\$chroot" "$bare" "\${@:2}"
END
chmod +x "$work/in_bare_root"

few_steps=(train --lm_model_name_or_path tiny/lm --vision_model_name_or_path tiny/clip --data_path tiny/data --dataset_names llava
  --threads 1 --per_device_train_batch_size 2 --num_train_epochs 1 --max_steps 2 --learning_rate 1e-3 --seed 3)
runs_elsewhere() {
  if ! unshare --user --map-root-user --mount true 2>/dev/null; then
    echo 'facet-skip: no system of its own can be had here'
    return
  fi
  make_bundle
  make_bare_root
  # Libraries of CUDA that this build names, where nvcc has linked it.
  local cuda
  cuda=$(ldd "$facet" | awk '$1 ~ /^libcublasLt/ { print $3 }')
  run 0 0 "$work/in_bare_root" "${cuda:+$(dirname "$cuda")}" /bin/sh -c 'cd /opt/elsewhere && exec build/facet "$@"' sh "${few_steps[@]}" --output_dir /tmp/run
  (cd "$bundle" && run 0 0 "$facet" "${few_steps[@]}" --output_dir "$work/run")
  same_columns "$bare/tmp/run/loss_log.csv" "$work/run/loss_log.csv" step loss grad_norm
  [ "$(rows "$work/run/loss_log.csv")" = 2 ]
  run 0 0 "$facet" inspect "$bare/tmp/run" "$work/run"
  once '0 of '
}

# A library of CUDA that no machine has.
lacking() {
  make_bundle
  cp -r "$bundle" "$work/$1"
  echo libcublasLt.so.99 >>"$work/$1/lib/from_cuda.txt"
}
names_what_it_lacks() {
  lacking without_cuda
  refused 78 0 'libcublasLt.so.99 of CUDA is not found in LD_LIBRARY_PATH' "$work/without_cuda/build/facet" --version
}
finds_cuda() {
  lacking with_cuda
  local place program=$work/with_cuda/build/facet
  for place in toolkit/lib64 site-packages/nvidia/cu99/lib elsewhere; do
    mkdir -p "$work/$place"
    : >"$work/$place/libcublasLt.so.99"
  done
  run 0 0 env CUDA_HOME="$work/toolkit" "$program" --version
  run 0 0 env PYTHONPATH="$work/site-packages" "$program" --version
  run 0 0 env LD_LIBRARY_PATH="$work/elsewhere" "$program" --version
}
broken_off() {
  local time
  for time in first second; do
    ! scripts/gpu_bundle.sh "$work/broken" facet="$work/none" >"$output" 2>&1 || fail "the $time one is made of nothing"
    once "error: $work/none is not there: run make gpu-bundle"
  done
}
too_large() {
  ! MOST_MB=1 scripts/gpu_bundle.sh "$work/large" true="$(type -P true)" >"$output" 2>&1
  once 'error: it is larger than 1 MB'
}

check GpuBundle.RunsWithoutTheBuildersPackages runs_elsewhere
check GpuBundle.NamesTheLibraryOfCudaThatIsMissing names_what_it_lacks
check GpuBundle.FindsTheLibrariesOfCuda finds_cuda
check GpuBundle.OneThatBrokeOffIsMadeAgain broken_off
check GpuBundle.TooLargeIsAnError too_large
finish
