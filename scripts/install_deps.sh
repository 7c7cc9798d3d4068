#!/usr/bin/env bash
# Installs missing build dependencies from the distribution's packages: only as root on Debian or Ubuntu, after
# printing the list. FACET_INSTALL=0 only prints. Elsewhere it says what to install or which modules to load.
# usage: install_deps.sh [tests|list]    tests: also what some tests need and skip themselves without; list: only name the packages
set -euo pipefail

packages=(
  build-essential make pkg-config        # compiler and build
  libopenmpi-dev openmpi-bin             # MPI
  libhdf5-openmpi-dev                    # HDF5, parallel build
  libboost-program-options-dev           # command line
  libdnnl-dev                            # oneDNN: matrix products on the CPU
  libsentencepiece-dev                   # tokenizer.model
  libpcre2-dev libutf8proc-dev           # tokenizer.json: patterns, Unicode normalization
  libfmt-dev libxxhash-dev
  libjpeg-dev libwebp-dev zlib1g-dev     # images
  libedit-dev                            # lines typed to facet chat
  libgtest-dev                           # tests
  clang-format                           # make lint, part of make check
  ccache                                 # compiles nothing twice; the build does without where it is missing
  procps                                 # pgrep, for the tests that kill ranks
  hdf5-tools                             # h5diff and h5dump, for the tests that compare checkpoints
)

# What no build needs. The tests start the services by themselves, with a configuration of their own.
test_packages=(
  slurm-wlm munge                    # the job scripts under a real Slurm
  python3-pandas python3-matplotlib  # scripts/analysis, which reads and draws the logs of runs
  tcl groff-base                     # the modulefile and the manual page of an installation
)

# Is everything installed already? Ask the compiler, not the package manager: modules and manual installs count.
have_all() {
  local tool
  for tool in "${CXX:-mpicxx}" mpirun make clang-format pgrep h5diff h5dump; do
    command -v "$tool" >/dev/null 2>&1 || return 1
  done
  local hdf5_flags
  hdf5_flags=$(pkg-config --cflags hdf5-openmpi 2>/dev/null || pkg-config --cflags hdf5 2>/dev/null || true)
  # shellcheck disable=SC2086
  "${CXX:-mpicxx}" -std=c++20 ${HDF5_CFLAGS:-$hdf5_flags} ${CXXFLAGS:-} -fsyntax-only -x c++ - >/dev/null 2>&1 <<'SOURCE'
#include <boost/program_options.hpp>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <histedit.h>
#include <mpi.h>
#include <oneapi/dnnl/dnnl.h>
#include <sentencepiece_processor.h>
#include <stdio.h>
#include <jpeglib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <webp/demux.h>
#include <xxhash.h>
#include <zlib.h>
SOURCE
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q --no-install-recommends "$@" ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; }
}

may_install() { [ "${FACET_INSTALL:-1}" != 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

have_test_packages() {
  command -v slurmctld && command -v slurmd && command -v sbatch && command -v tclsh && command -v groff &&
    "$(dirname "$0")/find_python.sh" pandas matplotlib
}

install_test_packages() {
  have_test_packages >/dev/null && return
  echo "packages needed for all tests: ${test_packages[*]}"
  if may_install; then install_packages "${test_packages[@]}" || echo "they cannot be installed: tests that need them are skipped"; fi
}

if [ "${1:-}" = list ]; then
  printf '%s\n' "${packages[@]}"
  exit
fi
if [ "${1:-}" = tests ]; then install_test_packages; fi
have_all && exit 0

os=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}")
case "$os" in
  *debian* | *ubuntu*) debian=1 ;;
  *) debian=0 ;;
esac

if [ "$debian" = 1 ]; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  echo "packages needed: ${missing[*]:-none of the list is missing, but a compile check failed}"
  if ! may_install; then
    echo "install them with: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  install_packages "${missing[@]}"
  have_all && exit 0
  echo "the packages are installed, but the compile check still fails; run this for the reason:" >&2
  echo "  echo '#include <hdf5.h>' | mpicxx \$(pkg-config --cflags hdf5-openmpi) -fsyntax-only -x c++ -" >&2
  exit 1
fi

cat >&2 <<'TEXT'
This is not Debian or Ubuntu, so nothing is installed. facet needs, with development files:
  a C++20 compiler behind mpicxx (GCC 12 or newer), Open MPI 4.1 or newer, HDF5 1.10 or newer built with that MPI,
  Boost.Program_options, oneDNN 2.6 or newer, SentencePiece, PCRE2 10.40 or newer,
  utf8proc, fmt, xxHash, libjpeg-turbo, libwebp, zlib, libedit, GoogleTest, clang-format, h5diff and h5dump (tests only)
  Python 3.9 or newer with pandas and matplotlib, only to draw and compare runs with scripts/analysis:
    module load python, or python3 -m venv ~/analysis && ~/analysis/bin/pip install pandas matplotlib
On a cluster load the modules of these names, for example: module load gcc openmpi hdf5 boost
and put paths that the compiler does not find by itself into config.mk, for example:
  CXXFLAGS    = -I/apps/onednn/include
  LDFLAGS     = -L/apps/onednn/lib
  HDF5_CFLAGS = -I/apps/hdf5/include
  HDF5_LIBS   = -L/apps/hdf5/lib -lhdf5
TEXT
exit 1
