#include "train/version.h"

#include <fmt/core.h>
#include <hdf5.h>
#include <mpi.h>
#include <dnnl.hpp>

#include "train/cuda/gpu.h"
#include "train/git_version.h"

namespace facet {

namespace {

constexpr const char* kVersion = "0.1";

std::string mpi_version() {
  char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(library, &length);
  const std::string mpi(library, static_cast<size_t>(length));
  return mpi.substr(0, mpi.find_first_of(",\n"));
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

std::string onednn_version() {
  const dnnl_version_t* dnnl = dnnl_version();
  return fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch);
}

}  // namespace

ProgramVersion program_version() {
  return {kVersion,       git_version(),    mpi_version(),
          hdf5_version(), onednn_version(), gpu_version_text()};
}

std::string program_name() { return fmt::format("facet {} (git {})", kVersion, git_version()); }

std::string compiler_text() {
  std::string text = "g++ " __VERSION__;
#ifdef __AVX512F__
  text += ", AVX-512";
#endif
#ifdef __AVX2__
  text += ", AVX2";
#endif
#ifdef __FMA__
  text += ", FMA";
#endif
  return text;
}

std::string version_text() {
  const ProgramVersion is = program_version();
  return fmt::format(
      "{}\n  compiler  {}\n  MPI       {}\n  HDF5      {}\n  oneDNN    {}\n  CUDA      {}",
      program_name(), compiler_text(), is.mpi, is.hdf5, is.onednn, is.cuda);
}

}  // namespace facet
