// The optimizer's operators, over dense fp32 vectors of n elements.
//
// adamw_step: g = gradient_scale grad; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps); then p -= lr wd p. p, m and v are
// updated in place, the rounded copy of p is overwritten. One element-wise pass. What is rounded
// once by an fma is said, not left to compilers: the bits are those of kernels/cpu/adamw.cpp.
// gradient_statistics: of each of several vectors, the sum of squares in double and the index of
// the first non-finite element, in two launches for all of them: at most kMostParts blocks a vector
// reduce one part each, one block a vector reduces its parts in a fixed order.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// ---- AdamW

struct AdamWVectors {
  float *param_n, *exp_avg_n, *exp_avg_sq_n;
  const float* grad_n;
};

// Copy is the type of the rounded copy; float if there is none.
template <typename Copy>
__global__ void __launch_bounds__(kElementThreads)
    adamw_step_kernel(AdamWVectors at, Copy* copy_n, int64_t n, AdamWFactors f, RowAccess access) {
  constexpr int kPack = kPackOf<Copy>;
  for_packs<kPack>(1, n, [=](int64_t, int64_t c) {
    float param[kPack], m[kPack], v[kPack], grad[kPack];
    load_floats(param, at.param_n, c, n, access);
    load_floats(m, at.exp_avg_n, c, n, access);
    load_floats(v, at.exp_avg_sq_n, c, n, access);
    load_floats(grad, at.grad_n, c, n, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float g = grad[i] * f.gradient_scale;
      m[i] = fmaf(f.beta1, m[i], f.rest1 * g);
      v[i] = fmaf(f.beta2, v[i], f.rest2 * g * g);
      const float moved = fmaf(-f.rate, m[i] / (sqrtf(v[i]) + f.eps), param[i]);
      param[i] = fmaf(-f.decay, moved, moved);
    }
    store_floats(at.param_n, param, c, n, access);
    store_floats(at.exp_avg_n, m, c, n, access);
    store_floats(at.exp_avg_sq_n, v, c, n, access);
    if (copy_n) store_floats(copy_n, param, c, n, access);
  });
}

// ---- norm and finiteness of a gradient: a part per block, then the parts in order

constexpr int kPartThreads = 256;
constexpr int kMostParts = 256;

// The smaller of two indices; -1 means none.
struct Earlier {
  GPU_DEVICE int64_t operator()(int64_t a, int64_t b) const {
    if (a < 0) return b;
    return b < 0 || a < b ? a : b;
  }
};

GPU_DEVICE void write_part(GradientPart* part, double sum, int64_t first) {
  sum = gpu::block_sum<kPartThreads>(sum);
  first = gpu::block_reduce<kPartThreads>(first, int64_t{-1}, Earlier());
  if (threadIdx.x == 0) *part = {sum, first};
}

__global__ void __launch_bounds__(kPartThreads)
    gradient_parts_kernel(GradientPart* parts, const GradientVector* vectors) {
  constexpr int kPack = kPackOf<float>;
  const int part = static_cast<int>(blockIdx.x);
  while (part >= vectors->first_part + vectors->num_parts) ++vectors;
  const GradientVector vector = *vectors;
  const RowAccess access = reinterpret_cast<uintptr_t>(vector.grad_n) % 16 == 0
                               ? RowAccess::kPacked
                               : RowAccess::kSingle;
  const int64_t packs = (vector.n + kPack - 1) / kPack;
  const int64_t step = int64_t{vector.num_parts} * kPartThreads;
  double sum = 0;
  int64_t first = -1;
  for (int64_t pack = int64_t{part - vector.first_part} * kPartThreads + threadIdx.x; pack < packs;
       pack += step) {
    const int64_t c = pack * kPack;
    float g[kPack];
    load_floats(g, vector.grad_n, c, vector.n, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      if (!isfinite(g[i]) && first < 0) first = c + i;
    }
  }
  write_part(parts + part, sum, first);
}

__global__ void __launch_bounds__(kPartThreads)
    gradient_total_kernel(GradientPart* results, const GradientPart* parts,
                          const GradientVector* vectors) {
  static_assert(kMostParts <= kPartThreads);
  const GradientVector vector = vectors[blockIdx.x];
  const bool mine = static_cast<int>(threadIdx.x) < vector.num_parts;
  const GradientPart* part = parts + vector.first_part + threadIdx.x;
  write_part(results + blockIdx.x, mine ? part->sum_squares : 0.0,
             mine ? part->first_non_finite : -1);
}

// A dense vector as an operand, for row_access.
Operand vector_of(const float* data, int64_t n) {
  return {const_cast<float*>(data), 1, n, n, DType::kF32};
}

}  // namespace

void adamw_step(float* param_n, float* exp_avg_n, float* exp_avg_sq_n, Operand copy_n,
                const float* grad_n, int64_t n, const AdamWFactors& factors, cudaStream_t stream) {
  if (n == 0) return;
  const RowAccess access = row_access({vector_of(param_n, n), vector_of(exp_avg_n, n),
                                       vector_of(exp_avg_sq_n, n), vector_of(grad_n, n), copy_n});
  with_type(copy_n.data ? copy_n.dtype : DType::kF32, [&](auto zero) {
    using Copy = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(1, n, kPackOf<Copy>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, adamw_step_kernel<Copy>,
                AdamWVectors{param_n, exp_avg_n, exp_avg_sq_n, grad_n},
                static_cast<Copy*>(copy_n.data), n, factors, access);
  });
}

GradientVector gradient_vector(const float* grad_n, int64_t n, int parts) {
  const int64_t packs = packs_of(1, n, kPackOf<float>);
  const int64_t wanted = (packs + kPartThreads - 1) / kPartThreads;
  return {grad_n, n, parts, static_cast<int>(wanted < kMostParts ? wanted : kMostParts)};
}

void gradient_statistics(GradientPart* results, GradientPart* workspace,
                         const GradientVector* vectors, int count, int parts, cudaStream_t stream) {
  if (parts > 0)
    gpu::launch(stream, {.grid = static_cast<unsigned>(parts), .block = kPartThreads},
                gradient_parts_kernel, workspace, vectors);
  if (count > 0)
    gpu::launch(stream, {.grid = static_cast<unsigned>(count), .block = kPartThreads},
                gradient_total_kernel, results, workspace, vectors);
}

}  // namespace facet::cuda
