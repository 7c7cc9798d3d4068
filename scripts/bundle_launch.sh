#!/bin/sh
# Starts a program of a bundle (scripts/gpu_bundle.sh), which has other names that lead here: build/facet, build/gpu/gpu_bench, ...
# Its libraries are the bundle's; those of CUDA, which are too large for it, are looked for. A program is one rank, without mpirun.
root=$(dirname "$(readlink -f "$0")")
program=$root/programs/$(basename "$0")
if [ ! -x "$program" ]; then
  echo "error: the bundle has no program $(basename "$0"); those of $root/build are its programs" >&2
  exit 66
fi

# Directories that CUDA's libraries may be in, a line each: of LD_LIBRARY_PATH, of a toolkit, of packages of Python.
directories_of_cuda() {
  printf '%s\n' "${LD_LIBRARY_PATH:-}" | tr : '\n'
  ls -d "${CUDA_HOME:-/usr/local/cuda}"/lib64 "${CUDA_HOME:-/usr/local/cuda}"/lib /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib \
    /usr/lib/x86_64-linux-gnu /usr/lib64 2>/dev/null
  for python in python3 "${VIRTUAL_ENV:-/opt/venv}/bin/python3"; do
    "$python" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' 2>/dev/null
  done | sort -u | while read -r packages; do ls -d "$packages"/nvidia/*/lib 2>/dev/null; done
}

# first_with LIBRARY: the first of $directories that has it.
first_with() {
  printf '%s\n' "$directories" | while read -r directory; do
    if [ -n "$directory" ] && [ -e "$directory/$1" ]; then
      echo "$directory"
      break
    fi
  done
}

path=$root/lib
# A directory of the system holds more than CUDA: the loader looks there last anyway.
add_to_path() {
  case $1 in "" | /usr/lib/x86_64-linux-gnu | /usr/lib64) ;; *) path=$path:$1 ;; esac
}

if [ -s "$root/lib/from_cuda.txt" ]; then
  directories=$(directories_of_cuda)
  while read -r library; do
    found=$(first_with "$library")
    if [ -z "$found" ]; then
      echo "error: $library of CUDA is not found in LD_LIBRARY_PATH, /usr/local/cuda*/lib64 or nvidia/*/lib of python3's packages: name its directory in LD_LIBRARY_PATH" >&2
      exit 78
    fi
    add_to_path "$found"
  done <"$root/lib/from_cuda.txt"
  add_to_path "$(first_with libcudnn.so.9)" # opened on request only, so it may be missing
fi
LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
OPAL_PREFIX=$root/openmpi OPAL_PKGLIBDIR=$root/openmpi/lib OPAL_PKGDATADIR=$root/openmpi/share OPAL_SYSCONFDIR=$root/openmpi
OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_plm=isolated OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
export LD_LIBRARY_PATH OPAL_PREFIX OPAL_PKGLIBDIR OPAL_PKGDATADIR OPAL_SYSCONFDIR
export OMPI_MCA_ess_singleton_isolated OMPI_MCA_plm OMPI_MCA_btl OMPI_MCA_btl_vader_single_copy_mechanism
exec "$program" "$@"
