#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

// sin(1 + 0.7 i + 1.3 c) (1 + 0.1 i) at place i of a g x g grid, channel c of two.
Values grid(int64_t g) {
  Values values;
  for (int64_t i = 0; i < g * g; ++i)
    for (int64_t c = 0; c < 2; ++c)
      values.push_back(std::sin(1 + 0.7 * static_cast<double>(i) + 1.3 * static_cast<double>(c)) *
                       (1 + 0.1 * static_cast<double>(i)));
  return values;
}

// Bicubic interpolation of PyTorch 2.5.1 in fp64 (align_corners=False) at five places of the grid.
struct Golden {
  int64_t from, to;
  int64_t places[5];
  double values[2][5];
};
const Golden kGolden[] = {
    {4,
     7,
     {0, 3, 24, 47, 48},
     {{0.976750598, 1.304443606, 0.320664939, -2.689945247, -2.520075845},
      {1.018586015, -0.241740382, 0.602661465, 0.158512339, 0.944058494}}},
    {5,
     3,
     {0, 1, 4, 7, 8},
     {{-0.015705711, 0.316948904, 0.054505936, -1.074661653, -0.973256444},
      {0.263822686, 0.180995812, -2.104597036, -0.885972809, 0.522430494}}},
    {3,
     3,
     {0, 1, 4, 7, 8},
     {{0.841470985, 1.090831291, -0.856601047, -0.635590330, 0.560774454},
      {0.745705212, 0.155232009, -1.296140555, 1.349235369, 1.798094415}}},
};

TEST(ResizePositions, GivesTheNumbersOfPyTorch) {
  CpuBackend ops(2);
  for (const Golden& golden : kGolden) {
    Matrix in(golden.from * golden.from, 2, grid(golden.from), 1);
    Matrix out(golden.to * golden.to, 2, 3);
    ops.resize_positions_forward(out.tensor(), in.tensor());
    for (int c = 0; c < 2; ++c)
      for (int k = 0; k < 5; ++k)
        EXPECT_NEAR(out.at(golden.places[k], c), golden.values[c][k], 1e-6)
            << golden.from << " to " << golden.to << ", place " << golden.places[k];
  }
}

TEST(ResizePositions, TheSameSizeChangesNoBit) {
  CpuBackend ops(1);
  Matrix in(49, 97, random_values(49 * 97, "in")), out(49, 97);
  ops.resize_positions_forward(out.tensor(), in.tensor());
  EXPECT_TRUE(out.same_bits(in));
}

// The map is linear: <resize(x), dy> = <x, resize'(dy)> for every pair is the whole gradient. The
// sizes exceed one thread's share.
TEST(ResizePositions, BackwardIsTheTransposedMapAndAccumulates) {
  CpuBackend ops(2);
  const int64_t g = 7, h = 16, c = 97;
  const Values x = random_values(g * g * c, "x"), dy = random_values(h * h * c, "dy"),
               start = random_values(g * g * c, "start");
  Matrix x_m(g * g, c, x, 1), y(h * h, c, 2), dy_m(h * h, c, dy, 3), dx(g * g, c, start, 1),
      again(g * g, c, start);
  ops.resize_positions_forward(y.tensor(), x_m.tensor());
  ops.resize_positions_backward_accumulate(dx.tensor(), dy_m.tensor());
  ops.resize_positions_backward_accumulate(again.tensor(), dy_m.tensor());
  EXPECT_TRUE(again.same_bits(dx)) << "two runs";
  EXPECT_NEAR(dot(dx.values(), x), dot(y.values(), dy) + dot(start, x),
              1e-6 * std::sqrt(dot(y.values(), y.values()) * dot(dy, dy)));
}

}  // namespace
}  // namespace facet::op_test
