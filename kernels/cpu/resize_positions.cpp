// Bicubic resize of a square grid of position vectors (a = -0.75, half-pixel centres, clamped
// border): out (h*h,C), overwritten, from in (g*g,C). Backward adds the transposed map of dout to
// din. Forward is parallel over rows of out, backward over columns, so that no two threads add to
// the same element. Weights are computed in double.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

int64_t square_side(const Matrix& grid) {
  return std::llround(std::sqrt(static_cast<double>(grid.rows)));
}

// The four points of the old axis that one point of the new axis is interpolated from.
struct Taps {
  int64_t index[4];
  double weight[4];
};

// Keys' cubic convolution with a = -0.75: near for distances up to 1, far between 1 and 2.
double cubic_near(double d) { return (1.25 * d - 2.25) * d * d + 1; }
double cubic_far(double d) { return ((-0.75 * d + 3.75) * d - 6) * d + 3; }

Taps taps(int64_t point, int64_t old_side, int64_t new_side) {
  const double ratio = static_cast<double>(old_side) / static_cast<double>(new_side);
  const double place = (static_cast<double>(point) + 0.5) * ratio - 0.5;
  const double below = std::floor(place), t = place - below;
  Taps result{{}, {cubic_far(1 + t), cubic_near(t), cubic_near(1 - t), cubic_far(2 - t)}};
  for (int64_t k = 0; k < 4; ++k)
    result.index[k] = std::clamp<int64_t>(static_cast<int64_t>(below) - 1 + k, 0, old_side - 1);
  return result;
}

// visit(new row, old row, weight) for all pairs, new rows in order.
template <typename Visit>
void for_weights(int64_t old_side, int64_t new_side, int64_t begin, int64_t end,
                 const Visit& visit) {
  for (int64_t to = begin; to < end; ++to) {
    const Taps y = taps(to / new_side, old_side, new_side);
    const Taps x = taps(to % new_side, old_side, new_side);
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        visit(to, y.index[i] * old_side + x.index[j],
              static_cast<float>(y.weight[i] * x.weight[j]));
  }
}

void add_scaled(float* to, const float* from, float weight, int64_t count) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] += weight * from[c];
}

}  // namespace

void CpuBackend::do_resize_positions_forward(Tensor out, Tensor in) {
  const Matrix out_NC(out), in_MC(in);
  const int64_t old_side = square_side(in_MC), new_side = square_side(out_NC), cols = out_NC.cols;
  for_row_ranges(out_NC.rows, 16 * cols, [=](int64_t, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) std::fill_n(out_NC.row(r), cols, 0.0f);
    for_weights(old_side, new_side, begin, end, [=](int64_t to, int64_t from, float weight) {
      add_scaled(out_NC.row(to), in_MC.row(from), weight, cols);
    });
  });
}

void CpuBackend::do_resize_positions_backward_accumulate(Tensor din, Tensor dout) {
  const Matrix din_MC(din), dout_NC(dout);
  const int64_t old_side = square_side(din_MC), new_side = square_side(dout_NC);
  for_column_ranges(16 * dout_NC.rows, dout_NC.cols, [=](int64_t begin, int64_t end) {
    for_weights(old_side, new_side, 0, dout_NC.rows, [=](int64_t from, int64_t to, float weight) {
      add_scaled(din_MC.row(to) + begin, dout_NC.row(from) + begin, weight, end - begin);
    });
  });
}

}  // namespace facet
