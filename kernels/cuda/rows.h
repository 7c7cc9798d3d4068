// Shared by row-wise kernels: typed rows, 16-byte accesses where alignment allows them, and
// dispatch on the element type.
#pragma once

#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "kernels/cuda/operand.h"
#include "kernels/gpu.h"

namespace facet::cuda {

template <typename T>
struct Rows {
  T* data;
  int64_t stride;

  GPU_DEVICE T* row(int64_t r) const { return data + r * stride; }
};

template <typename T>
Rows<T> rows_of(const Operand& x) {
  return {static_cast<T*>(x.data), x.stride};
}

// Whether all rows begin on 16-byte boundaries, so that packs can be loaded and stored at once.
enum class RowAccess : uint8_t { kPacked, kSingle };

inline RowAccess row_access(std::initializer_list<Operand> operands) {
  for (const Operand& x : operands) {
    if (!x.data) continue;
    const bool base = reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
    const bool rows = x.rows <= 1 || x.stride * size_of(x.dtype) % 16 == 0;
    if (!base || !rows) return RowAccess::kSingle;
  }
  return RowAccess::kPacked;
}

// v = row[c .. c + N), zeros from `cols` on. N is a multiple of T's pack.
template <int N, typename T>
GPU_DEVICE void load_floats(float (&v)[N], const T* row, int64_t c, int64_t cols,
                            RowAccess access) {
  constexpr int kPack = gpu::Pack<std::remove_const_t<T>>::kSize;
  static_assert(N % kPack == 0);
  if (access == RowAccess::kPacked && c + N <= cols) {
#pragma unroll
    for (int p = 0; p < N; p += kPack) {
      const auto pack = gpu::load_pack(row + c + p);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[p + i] = gpu::to_float(pack.v[i]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] = c + i < cols ? gpu::to_float(row[c + i]) : 0.0f;
}

// row[c .. c + N) = v, up to `cols`, each rounded once.
template <int N, typename T>
GPU_DEVICE void store_floats(T* row, const float (&v)[N], int64_t c, int64_t cols,
                             RowAccess access) {
  constexpr int kPack = gpu::Pack<T>::kSize;
  static_assert(N % kPack == 0);
  if (access == RowAccess::kPacked && c + N <= cols) {
#pragma unroll
    for (int p = 0; p < N; p += kPack) {
      gpu::Pack<T> pack;
#pragma unroll
      for (int i = 0; i < kPack; ++i) pack.v[i] = gpu::from_float<T>(v[p + i]);
      gpu::store_pack_global(row + c + p, pack);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (c + i < cols) row[c + i] = gpu::from_float<T>(v[i]);
}

// The elements that a thread of a row-wise kernel processes at a time: one pack of T.
template <typename T>
constexpr int kPackOf = gpu::Pack<std::remove_const_t<T>>::kSize;

// Calls body(T()) for the element type.
template <typename Body>
void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32: return body(float());
    case DType::kBF16: return body(gpu::bf16());
    case DType::kF16: return body(gpu::f16());
    default:
      throw std::invalid_argument("a kernel was given a matrix that is not fp32, bf16 or fp16");
  }
}

// ---- element-wise kernels: a grid-stride loop over the packs of a matrix

constexpr int kElementThreads = 256;

// Of two numbers of rows or columns, below 2^31: a 64-bit division takes about as long as a pack's
// loads and stores.
struct Quotient {
  int64_t whole, rest;
};
GPU_DEVICE Quotient divided(int64_t number, int64_t by) {
  const auto dividend = static_cast<unsigned>(number), divisor = static_cast<unsigned>(by);
  return {dividend / divisor, dividend % divisor};
}

// Calls body(row, first column) for every pack of a (rows, cols) matrix.
template <int kPack, typename Body>
GPU_DEVICE void for_packs(int64_t rows, int64_t cols, const Body& body) {
  const auto packs = static_cast<unsigned>((cols + kPack - 1) / kPack);
  const unsigned first = blockIdx.x * kElementThreads + threadIdx.x;
  const unsigned step = gridDim.x * kElementThreads;
  const unsigned rows_of_step = step / packs, packs_of_step = step % packs;
  int64_t r = first / packs;
  for (unsigned p = first % packs; r < rows; r += rows_of_step) {
    body(r, int64_t{p} * kPack);
    p += packs_of_step;
    if (p < packs) continue;
    p -= packs;
    ++r;
  }
}

// Blocks for that many packs; at most a few waves of a large device, whose threads then loop.
inline unsigned element_blocks(int64_t packs) {
  constexpr int64_t kMostBlocks = 2048;
  const int64_t blocks = (packs + kElementThreads - 1) / kElementThreads;
  return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
}

// Throws if a row has more packs than for_packs can count.
inline int64_t packs_of(int64_t rows, int64_t cols, int pack) {
  const int64_t packs = (cols + pack - 1) / pack;
  if (packs > std::numeric_limits<int32_t>::max())
    throw std::invalid_argument("a kernel was given a matrix with rows of over 2^31 packs");
  return rows * packs;
}

}  // namespace facet::cuda
