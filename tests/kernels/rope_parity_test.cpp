// The rotary embedding's kernel against the CPU backend and fp64.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kHeads = 3;

template <typename T>
std::vector<T> naive_rotation(const Values& x, const Values& cos, const Values& sin, int64_t rows,
                              int64_t half, T direction) {
  std::vector<T> y(x.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t c = 0; c < half; ++c) {
        const auto low = static_cast<size_t>((r * kHeads + head) * 2 * half + c);
        const size_t high = low + static_cast<size_t>(half);
        const auto angle = static_cast<size_t>(r * half + c);
        const T a = static_cast<T>(x[low]), b = static_cast<T>(x[high]);
        const T u = static_cast<T>(cos[angle]), v = direction * static_cast<T>(sin[angle]);
        y[low] = a * u - b * v;
        y[high] = b * u + a * v;
      }
  return y;
}

class RopeParity : public Parity {};

TEST_P(RopeParity, BothDirections) {
  const int64_t half = d_;
  ParityMatrix& cos = add("cos", n_, half, gap_, DType::kF32, Role::kIn);
  ParityMatrix& sin = add("sin", n_, half, gap_, DType::kF32, Role::kIn);
  ParityMatrix& x = matrix("x", kHeads * 2 * half, Role::kInOut);
  ParityMatrix& dx = matrix("dx", kHeads * 2 * half, Role::kInOut);
  run_kernels([&] {
    cuda::rope_forward(x.device(), cos.device(), sin.device(), kHeads, stream_);
    cuda::rope_backward(dx.device(), cos.device(), sin.device(), kHeads, stream_);
  });
  cpu().rope_forward(x.host(), cos.host(), sin.host(), kHeads);
  cpu().rope_backward(dx.host(), cos.host(), sin.host(), kHeads);
  const auto rotated = [&](const ParityMatrix& of, auto direction) {
    return naive_rotation(of.start(), cos.start(), sin.start(), n_, half, direction);
  };
  expect_parity(x, rotated(x, 1.0), rotated(x, 1.0f));
  expect_parity(dx, rotated(dx, -1.0), rotated(dx, -1.0f));
}

INSTANTIATE_TEST_SUITE_P(Sizes, RopeParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, RopeParity, testing::ValuesIn(real_cases({{8192, 64}})),
                         name_of_case);

}  // namespace
}  // namespace facet::kernel_test
