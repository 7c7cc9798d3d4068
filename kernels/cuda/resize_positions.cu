// Bicubic resize of a square grid of position vectors (a = -0.75, half-pixel centres, clamped
// border): out (h*h,C), overwritten, from in (g*g,C). Backward adds the transposed map of dout to
// din, fp32.
//
// One thread per pack of an output row. Forward sums 16 weighted rows; backward gathers, for each
// row of din, the rows of dout that used it, in order, instead of scattering with atomics. Weights
// are computed in double.
#include <cmath>
#include <stdexcept>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Keys' cubic convolution with a = -0.75: near for distances up to 1, far between 1 and 2.
GPU_DEVICE double cubic_near(double d) { return (1.25 * d - 2.25) * d * d + 1; }
GPU_DEVICE double cubic_far(double d) { return ((-0.75 * d + 3.75) * d - 6) * d + 3; }

// Sides of the square grids.
struct Sides {
  int64_t old_side, new_side;

  GPU_DEVICE double ratio() const {
    return static_cast<double>(old_side) / static_cast<double>(new_side);
  }
};

// The four points of the old axis that one point of the new axis is interpolated from.
struct Taps {
  int64_t index[4];
  double weight[4];

  GPU_DEVICE Taps(int64_t point, const Sides& sides) {
    const double place = (static_cast<double>(point) + 0.5) * sides.ratio() - 0.5;
    const double below = floor(place), t = place - below;
    weight[0] = cubic_far(1 + t);
    weight[1] = cubic_near(t);
    weight[2] = cubic_near(1 - t);
    weight[3] = cubic_far(2 - t);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t at = static_cast<int64_t>(below) - 1 + k;
      index[k] = at < 0 ? 0 : at < sides.old_side ? at : sides.old_side - 1;
    }
  }
  // The total weight of an old point; clamping at the border may repeat it.
  GPU_DEVICE double weight_of(int64_t old_point) const {
    double sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (index[k] == old_point) sum += weight[k];
    return sum;
  }
};

// The points of the new axis that use an old one: those less than two old points away from it, plus
// one point on either side for rounding.
struct Takers {
  int64_t begin, end;

  GPU_DEVICE Takers(int64_t old_point, const Sides& sides) {
    const double place = static_cast<double>(old_point) + 0.5, ratio = sides.ratio();
    begin = max(int64_t{0}, static_cast<int64_t>((place - 2) / ratio - 0.5) - 1);
    end = min(sides.new_side, static_cast<int64_t>((place + 2) / ratio - 0.5) + 2);
  }
};

// to (kPack values) += weight from.
template <int kPack, typename T>
GPU_DEVICE void add_scaled(float (&to)[kPack], double weight, const T* from, int64_t c,
                           int64_t cols, RowAccess access) {
  float v[kPack];
  load_floats(v, from, c, cols, access);
#pragma unroll
  for (int i = 0; i < kPack; ++i) to[i] += static_cast<float>(weight) * v[i];
}

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    resize_forward_kernel(Rows<T> out_NC, Rows<const T> in_MC, Sides sides, int64_t cols,
                          RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(sides.new_side * sides.new_side, cols, [=](int64_t r, int64_t c) {
    const Quotient point = divided(r, sides.new_side);
    const Taps y(point.whole, sides), x(point.rest, sides);
    float sum[kPack] = {};
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        add_scaled(sum, y.weight[i] * x.weight[j],
                   in_MC.row(y.index[i] * sides.old_side + x.index[j]), c, cols, access);
    store_floats(out_NC.row(r), sum, c, cols, access);
  });
}

// Every old point adds the gradients of the new points that used it, in order.
__global__ void __launch_bounds__(kElementThreads)
    resize_backward_kernel(Rows<float> din_MC, Rows<const float> dout_NC, Sides sides, int64_t cols,
                           RowAccess access) {
  constexpr int kPack = kPackOf<float>;
  for_packs<kPack>(sides.old_side * sides.old_side, cols, [=](int64_t r, int64_t c) {
    const auto [row, col] = divided(r, sides.old_side);
    const Takers rows(row, sides), columns(col, sides);
    float sum[kPack];
    load_floats(sum, din_MC.row(r), c, cols, access);
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      const double row_weight = Taps(y, sides).weight_of(row);
      if (row_weight == 0) continue;
      for (int64_t x = columns.begin; x < columns.end; ++x)
        add_scaled(sum, row_weight * Taps(x, sides).weight_of(col),
                   dout_NC.row(y * sides.new_side + x), c, cols, access);
    }
    store_floats(din_MC.row(r), sum, c, cols, access);
  });
}

int64_t side_of(const Operand& grid) {
  const int64_t side = std::llround(std::sqrt(static_cast<double>(grid.rows)));
  if (side * side != grid.rows) throw std::invalid_argument("positions are not a square grid");
  return side;
}

}  // namespace

void resize_positions_forward(Operand out_NC, Operand in_MC, cudaStream_t stream) {
  if (out_NC.rows * out_NC.cols == 0) return;
  const Sides sides{side_of(in_MC), side_of(out_NC)};
  with_type(out_NC.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(out_NC.rows, out_NC.cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, resize_forward_kernel<T>,
                rows_of<T>(out_NC), rows_of<const T>(in_MC), sides, out_NC.cols,
                row_access({out_NC, in_MC}));
  });
}

void resize_positions_backward_accumulate(Operand din_MC, Operand dout_NC, cudaStream_t stream) {
  if (din_MC.rows * din_MC.cols == 0) return;
  const Sides sides{side_of(din_MC), side_of(dout_NC)};
  const unsigned blocks = element_blocks(packs_of(din_MC.rows, din_MC.cols, kPackOf<float>));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, resize_backward_kernel,
              rows_of<float>(din_MC), rows_of<const float>(dout_NC), sides, din_MC.cols,
              row_access({din_MC, dout_NC}));
}

}  // namespace facet::cuda
