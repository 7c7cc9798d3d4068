#include "train/version.h"

#include <fmt/core.h>
#include <hdf5.h>
#include <mpi.h>
#include <dnnl.hpp>

#include "train/cuda/gpu.h"

namespace facet {

std::string version_text() {
  char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(library, &length);
  std::string mpi(library, static_cast<size_t>(length));
  mpi = mpi.substr(0, mpi.find_first_of(",\n"));
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  const dnnl_version_t* dnnl = dnnl_version();
  return fmt::format(
      "facet 0.1\n  compiler  g++ {}\n  MPI       {}\n  HDF5      {}.{}.{}\n"
      "  oneDNN    {}.{}.{}\n  CUDA      {}",
      __VERSION__, mpi, major, minor, release, dnnl->major, dnnl->minor, dnnl->patch,
      gpu_version_text());
}

}  // namespace facet
