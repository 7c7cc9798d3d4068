#!/usr/bin/env bash
# Makes one directory, and a .tar.gz of it, from which programs run on a machine that has a GPU's driver and CUDA's libraries and
# else nothing of what they need: one rank each, without mpirun. usage: gpu_bundle.sh DIRECTORY NAME=FILE...
#
# NAME is where a program will be in DIRECTORY/build, as `facet` or `gpu/gpu_bench`; all start through scripts/bundle_launch.sh, which
# looks for CUDA's libraries. DIRECTORY holds the scripts and data of this tree that belong to them, too. MOST_MB=60: a larger archive
# is an error; NO_ARCHIVE=1: only the directory.
set -euo pipefail
cd "$(dirname "$0")/.."
stop() {
  echo "error: $*" >&2
  exit 1
}
top=${1:?usage: gpu_bundle.sh DIRECTORY NAME=FILE...}
shift
[ $# -gt 0 ] || stop "no program is named"
[ ! -e "$top" ] || [ -e "$top/bundle_launch.sh" ] || stop "$top is there and no bundle: remove it, or choose another"
rm -rf "$top"
mkdir -p "$top"/{programs,lib,openmpi/lib,openmpi/share,scripts,tests/golden,build/gpu}
install -m 755 scripts/bundle_launch.sh "$top/bundle_launch.sh" # first: a bundle that broke off is told by it

# ---- the programs, and every library that they name

for pair in "$@"; do
  name=${pair%%=*} file=${pair#*=}
  [ -x "$file" ] || stop "$file is not there: run make gpu-bundle"
  install -m 755 "$file" "$top/programs/$(basename "$name")"
  mkdir -p "$(dirname "$top/build/$name")"
  ln -sf "$(sed 's|[^/]*/|../|g; s|[^/]*$||' <<<"build/$name")bundle_launch.sh" "$top/build/$name"
done

# Plugins of Open MPI are loaded by name. Those of networks, launchers and other jobs' processes are of no use to one rank alone.
plugins=$(ompi_info --path pkglibdir 2>/dev/null | sed -n 's/^ *Pkglibdir: *//p')
[ -n "$plugins" ] && [ -d "$plugins" ] || stop "ompi_info --path pkglibdir names no directory: bundles need Open MPI"
for plugin in "$plugins"/mca_*.so; do
  case ${plugin##*/} in
    *_ucx.so | *_ofi.so | *_openib.so | *_psm.so | *_psm2.so | *_monitoring.so | *_ext3x.so | *_flux.so | *_slurm.so | *_gridengine.so | *_tcp.so) ;;
    *) cp -L "$plugin" "$top/openmpi/lib/" ;;
  esac
done
cp -rL "$(ompi_info --path pkgdatadir | sed -n 's/^ *Pkgdatadir: *//p')/." "$top/openmpi/share/"

# libraries_of FILE...: "SONAME PATH" of all that they load; "SONAME not" where it is not found.
libraries_of() { ldd "$@" | awk '$2 == "=>" { print $1, $3 }' | sort -u; }
while read -r name path; do
  case $name in
    # The system's: older than that of this machine will not do, and a second one beside it neither.
    ld-linux* | libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | libutil.so.*) ;;
    libcuda.so.*) ;;
    libcublas* | libnccl*) echo "$name" >>"$top/lib/from_cuda.txt" ;;
    *)
      [ -e "$path" ] || stop "$name is not found, which one of $* needs"
      cp -L "$path" "$top/lib/$name"
      ;;
  esac
done < <(libraries_of "$top"/programs/* "$top"/openmpi/lib/*)
touch "$top/lib/from_cuda.txt"
find "$top/programs" "$top/lib" "$top/openmpi" -type f \( -name '*.so*' -o -path '*/programs/*' \) -exec strip --strip-debug {} +

# ---- scripts and data

cp scripts/gpu_check.sh scripts/gpu_run_all.sh scripts/bench_torch_gpu.py "$top/scripts/"
cp tests/golden/curves.safetensors "$top/tests/golden/"
if [ -x "$top/programs/make_tiny" ]; then
  "$top/build/make_tiny" --output "$top/tiny" --scenes 24 --seed 1 >/dev/null
  rm -r "$top"/tiny/{siglip,qwen_vl} # random numbers of encoders that no script takes, a tenth of the archive
fi

du -shL "$top" | awk '{ print "made " $2 ", " $1 }'
[ -z "${NO_ARCHIVE:-}" ] || exit 0
tar -C "$(dirname "$top")" --owner=0 --group=0 -cf - "$(basename "$top")" | gzip -9 >"$top.tar.gz"
bytes=$(stat -c %s "$top.tar.gz")
printf 'packed %s.tar.gz, %.1f MB\n' "$top" "$(awk "BEGIN { print $bytes / 1e6 }")"
[ "$bytes" -le $((${MOST_MB:-60} * 1000000)) ] || stop "it is larger than ${MOST_MB:-60} MB"
