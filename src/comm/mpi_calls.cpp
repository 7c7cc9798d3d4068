#include "comm/mpi_calls.h"

#include <cstdlib>
#include <string>

#include "base/check.h"

namespace facet {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ExitCode::kInternal, "{} failed: {}", call, std::string(text, static_cast<size_t>(length)));
}

MPI_Datatype words_of(const Tensor& x) {
  ASSERT(x.dtype() == DType::kF32 || is_16_bit(x.dtype()), "tensors of {} cannot be sent",
         name_of(x.dtype()));
  return x.dtype() == DType::kF32 ? MPI_FLOAT : MPI_UINT16_T;
}

std::string host_name() {
  if (const char* const given = std::getenv("FACET_HOSTNAME")) return given;
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  MPI_Get_processor_name(name, &length);
  return std::string(name, static_cast<size_t>(length));
}

}  // namespace facet
