// Must not compile on the host: see compile_test.cpp. (Under nvcc it is an ordinary kernel.)
#include "kernels/gpu.h"

__global__ void bare_shared_kernel(float* y) {
  __shared__ float s[32];
  s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = s[31 - threadIdx.x];
}
