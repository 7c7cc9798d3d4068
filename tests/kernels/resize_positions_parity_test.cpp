// The kernels that resize grids of positions against the CPU backend and fp64.
#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

// Keys' cubic convolution with a = -0.75.
double cubic(double distance) {
  const double a = -0.75, d = std::fabs(distance);
  if (d <= 1) return (a + 2) * d * d * d - (a + 3) * d * d + 1;
  return d < 2 ? a * (d * d * d - 5 * d * d + 8 * d - 4) : 0;
}

// The weights (new_side, old_side) of one axis: every point within a distance of two, those beyond
// the border standing at the border.
Values axis_weights(int64_t old_side, int64_t new_side) {
  Values weights(static_cast<size_t>(new_side * old_side));
  for (int64_t to = 0; to < new_side; ++to)
    for (int64_t from = -2; from < old_side + 2; ++from) {
      const double place = (static_cast<double>(to) + 0.5) * static_cast<double>(old_side) /
                               static_cast<double>(new_side) -
                           0.5;
      const int64_t at = std::clamp<int64_t>(from, 0, old_side - 1);
      weights[static_cast<size_t>(to * old_side + at)] += cubic(place - static_cast<double>(from));
    }
  return weights;
}

// body(new point, old point, weight)
template <typename Body>
void for_weights(int64_t old_side, int64_t new_side, const Body& body) {
  const Values axis = axis_weights(old_side, new_side);
  for (int64_t to = 0; to < new_side * new_side; ++to)
    for (int64_t from = 0; from < old_side * old_side; ++from)
      body(to, from,
           axis[static_cast<size_t>(to / new_side * old_side + from / old_side)] *
               axis[static_cast<size_t>(to % new_side * old_side + from % old_side)]);
}

template <typename T>
void add_row(std::vector<T>& to, int64_t to_row, const Values& from, int64_t from_row, T weight,
             int64_t cols) {
  for (int64_t c = 0; c < cols; ++c)
    to[static_cast<size_t>(to_row * cols + c)] +=
        weight * static_cast<T>(from[static_cast<size_t>(from_row * cols + c)]);
}

template <typename T>
struct Resized {
  std::vector<T> out, din;
};

template <typename T>
Resized<T> naive_resize(const Values& in, const Values& dout, const Values& din, int64_t old_side,
                        int64_t new_side, int64_t cols) {
  Resized<T> result{std::vector<T>(dout.size()), op_test::cast<T>(din)};
  for_weights(old_side, new_side, [&](int64_t to, int64_t from, double weight) {
    add_row(result.out, to, in, from, static_cast<T>(weight), cols);
    add_row(result.din, from, dout, to, static_cast<T>(weight), cols);
  });
  return result;
}

class ResizeParity : public Parity {
 protected:
  void expect_parity_between(int64_t old_side, int64_t new_side) {
    const int64_t olds = old_side * old_side, news = new_side * new_side;
    ParityMatrix &in = add("in", olds, d_, gap_, dtype_, Role::kIn),
                 &out = add("out", news, d_, gap_, dtype_, Role::kOut),
                 &dout = add("dout", news, d_, gap_, DType::kF32, Role::kIn),
                 &din = add("din", olds, d_, gap_, DType::kF32, Role::kInOut);
    run_kernels([&] {
      out.upload();
      din.upload();
      cuda::resize_positions_forward(out.device(), in.device(), stream_);
      cuda::resize_positions_backward_accumulate(din.device(), dout.device(), stream_);
    });
    cpu().resize_positions_forward(out.host(), in.host());
    cpu().resize_positions_backward_accumulate(din.host(), dout.host());
    const auto exact =
        naive_resize<double>(in.start(), dout.start(), din.start(), old_side, new_side, d_);
    const auto naive =
        naive_resize<float>(in.start(), dout.start(), din.start(), old_side, new_side, d_);
    expect_parity(out, exact.out, naive.out);
    expect_parity(din, exact.din, naive.din, kGradientFactor);
  }
};

TEST_P(ResizeParity, Up) { expect_parity_between(4, n_); }
TEST_P(ResizeParity, Down) { expect_parity_between(n_, 3); }
TEST_P(ResizeParity, FromOnePoint) { expect_parity_between(1, n_); }
TEST_P(ResizeParity, ToOnePoint) { expect_parity_between(n_, 1); }

// Sides of 7 (and 3); all widths of rows.
std::vector<ParityCase> sides() {
  std::vector<ParityCase> cases = parity_cases();
  std::erase_if(cases, [](const ParityCase& c) { return c.rows > 7 || c.rows == 1; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Sizes, ResizeParity, testing::ValuesIn(sides()), name_of_case);

TEST(ResizeParityOfSides, TheSameSizeChangesNoBit) {
  const TestStream stream;
  ParityMatrix in(stream, "in", 25, 97, 0, DType::kF32, Role::kIn);
  ParityMatrix out(stream, "out", 25, 97, 0, DType::kF32, Role::kOut);
  cuda::resize_positions_forward(out.device(), in.device(), stream);
  EXPECT_TRUE(same_bits(out.of_gpu(), in.start()));
}

// No user of an old point may be missed, however the ratio is rounded: a grid of ones gives to the
// new points, together, as much as there are.
TEST(ResizeParityOfSides, NothingIsLostBetweenAnyTwo) {
  const TestStream stream;
  for (int64_t old_side = 1; old_side <= 12; ++old_side)
    for (int64_t new_side = 1; new_side <= 12; ++new_side) {
      ParityMatrix din(stream, "din", old_side * old_side, 1, 0, DType::kF32, Role::kInOut);
      ParityMatrix dout(stream, "dout", new_side * new_side, 1, 0, DType::kF32, Role::kIn);
      din.set(Values(static_cast<size_t>(old_side * old_side)));
      dout.set(Values(static_cast<size_t>(new_side * new_side), 1));
      cuda::resize_positions_backward_accumulate(din.device(), dout.device(), stream);
      double sum = 0;
      for (const double value : din.of_gpu()) sum += value;
      const auto all = static_cast<double>(new_side * new_side);
      EXPECT_NEAR(sum, all, 1e-5 * all) << old_side << " to " << new_side;
    }
}

TEST(ResizeParityOfSides, AGridThatIsNotSquareReachesNoKernel) {
  const TestStream stream;
  const DeviceBuffer<float> x(6);
  const cuda::Operand six{x.data(), 6, 1, 1, DType::kF32}, four{x.data(), 4, 1, 1, DType::kF32};
  EXPECT_THROW(cuda::resize_positions_forward(four, six, stream), std::invalid_argument);
  EXPECT_THROW(cuda::resize_positions_backward_accumulate(six, four, stream),
               std::invalid_argument);
}

}  // namespace
}  // namespace facet::kernel_test
