// cuDNN's graph API. It is not emulated: kernels/cuda/cudnn_* include it, and a build without cuDNN
// leaves those out.
#pragma once

#include <cudnn_graph.h>
