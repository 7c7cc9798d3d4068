// Rotary embedding, in place: in every head of x (N, heads*E), for c < E/2, (a, b) = (x[c],
// x[c+E/2]) becomes (a cos - b sin, b cos + a sin); cos, sin (N,E/2). Backward rotates dx by the
// negative angles. Parallel over rows.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

// Rotates every pair (x[c], x[c + E/2]) of every head by the angle of its row and channel;
// `direction` is 1 or, for the transposed rotation, -1.
void rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, int64_t heads, float direction) {
  const Matrix x_ND(x), cos_NE(cos), sin_NE(sin);  // E here: half a head
  const int64_t half = cos_NE.cols;
  for_rows(x_ND.rows, x_ND.cols, [=](int64_t r) {
    const float *c = cos_NE.row(r), *s = sin_NE.row(r);
    for (int64_t h = 0; h < heads; ++h) {
      float *low = x_ND.row(r) + h * 2 * half, *high = low + half;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const float a = low[i], b = high[i], turn = direction * s[i];
        low[i] = a * c[i] - b * turn;
        high[i] = b * c[i] + a * turn;
      }
    }
  });
}

}  // namespace

void CpuBackend::do_rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  rotate(x, cos, sin, heads, 1);
}

void CpuBackend::do_rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  rotate(dx, cos, sin, heads, -1);
}

}  // namespace facet
