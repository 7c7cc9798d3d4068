// Kernels that use every operation of a warp or block as it is meant, one output per thread.
#pragma once

#include "device/cuda_runtime.h"

namespace facet::kernel_test {

void two_segments(int* y, cudaStream_t stream);     // 32 threads, shuffles of halves of a warp
void partial_warp(int* y, cudaStream_t stream);     // 48 threads, the last warp has 16 lanes
void block_votes(int* y, cudaStream_t stream);      // 8 x 4 threads
void warp_votes(unsigned* y, cudaStream_t stream);  // 32 threads, 6 outputs each
void warp_reductions(int* y, cudaStream_t stream);  // 32 threads, 6 outputs each
void submask_sync(float* y, cudaStream_t stream);   // 32 threads
void inclusive_scan(int* y, const int* x, int n, cudaStream_t stream);  // one block of 256
void block_sums(float* y, const float* x, int n, cudaStream_t stream);  // y (4), 4 blocks
void histogram(int* counts, const int* x, int n, int bins, cudaStream_t stream);
void atomic_extremes(int* y, const int* x, int n, cudaStream_t stream);  // max, min, exchanged, cas

}  // namespace facet::kernel_test
