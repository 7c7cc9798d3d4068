// What a program built without cuDNN says about it.
#include "base/check.h"
#include "kernels/cuda/attention_library.h"

namespace facet::cuda {

std::unique_ptr<AttentionLibrary> open_cudnn(const Stream&) {
  fail(ExitCode::kConfig,
       "--attention cudnn: this program was built without cuDNN; build it where cudnn_graph.h of "
       "cuDNN 9 is beside CUDA's headers, or give --attention facet");
}

}  // namespace facet::cuda
