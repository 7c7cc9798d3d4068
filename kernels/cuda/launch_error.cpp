// The error of a failed kernel launch; declared in kernels/gpu_nvcc.h.
#include "base/check.h"

namespace facet::gpu {

[[noreturn]] void fail_launch(const char* file, int line, const char* error);

void fail_launch(const char* file, int line, const char* error) {
  fail(
      ExitCode::kInternal,
      "{}:{}: the kernel could not be launched: {}; run the program under compute-sanitizer to see "
      "which kernel failed first",
      file, line, error);
}

}  // namespace facet::gpu
