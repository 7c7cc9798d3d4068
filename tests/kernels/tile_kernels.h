// Kernels around tensor cores and asynchronous copies, used as they are meant.
#pragma once

#include <cstdint>

#include "device/cuda_runtime.h"

namespace facet::kernel_test {

enum class HalfType : uint8_t { kBF16, kF16 };

// d (16,8) = a (16,16) b (16,8) + c (16,8), every operand loaded element by element.
void mma_by_elements(float* d, const uint16_t* a, const uint16_t* b, const float* c, HalfType type,
                     cudaStream_t stream);
// The same product; a and b go through shared memory and ldmatrix (transposing b).
void mma_by_ldmatrix(float* d, const uint16_t* a, const uint16_t* b, HalfType type,
                     cudaStream_t stream);
// What each lane gets: y (32, 8) of x (32, 8), row l of x being the row that lane l points to;
// columns 0-3 by ldmatrix_x4, 4-7 by its transposed form.
void ldmatrix_registers(uint32_t* y, const uint16_t* x, cudaStream_t stream);
// y (n) = x (n) rounded to the type, two at a time; n even.
void round_pairs(uint16_t* y, const float* x, int n, HalfType type, cudaStream_t stream);
// y (n) = x (n) through a ring of `kStages` tiles of 128 floats in shared memory; past n: zeros
// that must not reach y.
void copy_through_ring(float* y, const float* x, int n, cudaStream_t stream);

}  // namespace facet::kernel_test
