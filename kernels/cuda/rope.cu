// Rotary embedding, in place: in every head of x (N, heads*E), for c < E/2, (a, b) = (x[c],
// x[c+E/2]) becomes (a cos - b sin, b cos + a sin); cos, sin (N,E/2) fp32. Backward rotates dx by
// the negative angles.
//
// Element-wise: each thread handles packs of the first half of a head with their partners in the
// second half.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rotation.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Rotates every pair (x[c], x[c + E/2]) of every head by the angle of its row and channel, or by
// its negative if `direction` is -1.
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    rotate_kernel(Rows<T> x_ND, Rows<const float> cos_NE, Rows<const float> sin_NE, int64_t rows,
                  int64_t heads, int64_t half, float direction, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  // Here a row of packs is one half of every head, of which each begins with a pack.
  const int64_t packs_of_half = (half + kPack - 1) / kPack;
  for_packs<kPack>(rows, heads * packs_of_half * kPack, [=](int64_t r, int64_t place) {
    const Quotient head_and_pack = divided(place / kPack, packs_of_half);
    const int64_t c = head_and_pack.rest * kPack;
    T* low_E = x_ND.row(r) + head_and_pack.whole * 2 * half;
    T* high_E = low_E + half;
    float low[kPack], high[kPack], cos[kPack], sin[kPack];
    load_floats(low, low_E, c, half, access);
    load_floats(high, high_E, c, half, access);
    load_floats(cos, cos_NE.row(r), c, half, access);
    load_floats(sin, sin_NE.row(r), c, half, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const Turned pair = turned(low[i], high[i], cos[i], direction * sin[i]);
      low[i] = pair.low;
      high[i] = pair.high;
    }
    store_floats(low_E, low, c, half, access);
    store_floats(high_E, high, c, half, access);
  });
}

void rotate(const Operand& x_ND, const Operand& cos_NE, const Operand& sin_NE, int64_t heads,
            float direction, cudaStream_t stream) {
  const int64_t rows = x_ND.rows, half = cos_NE.cols;
  if (rows * heads * half == 0) return;
  // Each half of a head must begin on a 16-byte boundary too.
  const Operand first_half{x_ND.data, rows * heads * 2, half, half, x_ND.dtype};
  const RowAccess access = row_access({x_ND, first_half, cos_NE, sin_NE});
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows * heads, half, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, rotate_kernel<T>,
                rows_of<T>(x_ND), rows_of<const float>(cos_NE), rows_of<const float>(sin_NE), rows,
                heads, half, direction, access);
  });
}

}  // namespace

void rope_forward(Operand x_ND, Operand cos_NE, Operand sin_NE, int64_t heads,
                  cudaStream_t stream) {
  rotate(x_ND, cos_NE, sin_NE, heads, 1, stream);
}
void rope_backward(Operand dx_ND, Operand cos_NE, Operand sin_NE, int64_t heads,
                   cudaStream_t stream) {
  rotate(dx_ND, cos_NE, sin_NE, heads, -1, stream);
}

}  // namespace facet::cuda
