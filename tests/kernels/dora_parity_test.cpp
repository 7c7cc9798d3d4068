// DoRA's kernels against the CPU backend and fp64.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

using op_test::cast;

constexpr float kScale = 0.75f;

// ---- norms: rows are a weight's outputs, columns its inputs

struct NormCase {
  DType dtype;
  int64_t outputs, inputs, rank, gap;

  operator ParityCase() const { return {dtype, outputs, inputs, gap}; }
};
void PrintTo(const NormCase& c, std::ostream* out) { *out << c.outputs << "x" << c.inputs; }

class DoraNormParity : public ParityRig, public testing::WithParamInterface<NormCase> {
 protected:
  DoraNormParity() : ParityRig(GetParam()) {}

  const int64_t r_ = GetParam().rank;
  ParityMatrix& weight_ = matrix("weight", d_, Role::kIn);
  ParityMatrix& right_ = add("right", d_, r_, gap_, dtype_, Role::kIn);
  ParityMatrix& left_ = add("left", r_, n_, gap_, dtype_, Role::kIn);

  template <typename T>
  std::vector<T> naive() const {
    const auto w = cast<T>(weight_.start()), r = cast<T>(right_.start()),
               l = cast<T>(left_.start());
    std::vector<T> norms;
    for (int64_t o = 0; o < n_; ++o) {
      T sum = 0;
      for (int64_t i = 0; i < d_; ++i) {
        T v = w[static_cast<size_t>(o * d_ + i)];
        for (int64_t k = 0; k < r_; ++k)
          v += T(kScale) * r[static_cast<size_t>(i * r_ + k)] * l[static_cast<size_t>(k * n_ + o)];
        sum += v * v;
      }
      norms.push_back(std::sqrt(sum));
    }
    return norms;
  }
};

TEST_P(DoraNormParity, Rows) {
  ParityMatrix& norm = vector("norm", n_, DType::kF32, Role::kOut);
  run_kernels([&] {
    cuda::dora_row_norms(norm.device_f32(), weight_.device(), right_.device(), left_.device(),
                         kScale, stream_);
  });
  cpu().dora_row_norms(norm.host_vector(), weight_.host(), right_.host(), left_.host(), kScale);
  expect_parity(norm, naive<double>(), naive<float>());
}

// Whole blocks of rows and columns and parts of them; ranks of whole packs, of parts, and over one
// tile; rows on 16-byte boundaries and not.
std::vector<NormCase> norm_cases() {
  struct Sizes {
    int64_t outputs, inputs, rank, gap;
  };
  const Sizes all[] = {{1, 1, 1, 0},     {7, 97, 8, 1},    {8, 1030, 16, 0},
                       {13, 40, 131, 5}, {33, 257, 12, 4}, {3, 4096, 16, 0}};
  std::vector<NormCase> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const auto& [outputs, inputs, rank, gap] : all)
      if (!every_access_is_watched() || outputs * inputs * rank < 150'000)
        cases.push_back({dtype, outputs, inputs, rank, gap});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Sizes, DoraNormParity, testing::ValuesIn(norm_cases()));

// ---- magnitudes

template <typename T>
struct DoraResult {
  std::vector<T> y, dz, dmagnitude;
};

class DoraParity : public Parity {
 protected:
  DoraParity() {
    Values norms = norm_.start();
    for (double& value : norms) value = 2 + std::abs(value);
    norms[0] = 0;  // of a row of zeros
    norm_.set(rounded(norms, DType::kF32));
  }

  ParityMatrix &z_ = matrix("z", d_, Role::kIn), &dy_ = matrix("dy", d_, Role::kIn),
               &magnitude_ = vector("magnitude", d_, dtype_, Role::kIn),
               &norm_ = vector("norm", d_, DType::kF32, Role::kIn);

  // y without a bias begins as 0, dmagnitude as given.
  template <typename T>
  DoraResult<T> naive(const Values& dmagnitude) const {
    const auto z = cast<T>(z_.start()), dy = cast<T>(dy_.start()), m = cast<T>(magnitude_.start()),
               norm = cast<T>(norm_.start());
    DoraResult<T> result{std::vector<T>(z.size()), std::vector<T>(z.size()), cast<T>(dmagnitude)};
    for (size_t i = 0; i < z.size(); ++i) {
      const size_t c = i % static_cast<size_t>(d_);
      if (norm[c] == 0) continue;
      result.y[i] = z[i] * (m[c] / norm[c]);
      result.dz[i] = dy[i] * (m[c] / norm[c]);
      result.dmagnitude[c] += dy[i] * z[i] / norm[c];
    }
    return result;
  }
  template <typename T>
  static std::vector<T> with(std::vector<T> y, const ParityMatrix& bias, const Values& residual) {
    for (size_t i = 0; i < y.size(); ++i)
      y[i] += T(bias.start()[i % bias.start().size()]) + T(residual[i]);
    return y;
  }
};

// In place on the residual, as it may be, and of nothing but z.
TEST_P(DoraParity, Forward) {
  ParityMatrix& y = matrix("residual", d_, Role::kInOut);
  ParityMatrix& bare = matrix("bare", d_, Role::kOut);
  ParityMatrix& bias = vector("bias", d_, dtype_, Role::kIn);
  run_kernels([&] {
    cuda::dora_forward(y.device(), z_.device(), magnitude_.device(), norm_.device_f32(),
                       bias.device(), y.device(), stream_);
    cuda::dora_forward(bare.device(), z_.device(), magnitude_.device(), norm_.device_f32(), {}, {},
                       stream_);
  });
  cpu().dora_forward(y.host(), z_.host(), magnitude_.host_vector(), norm_.host_vector(),
                     bias.host_vector(), y.host());
  cpu().dora_forward(bare.host(), z_.host(), magnitude_.host_vector(), norm_.host_vector(),
                     Tensor(), Tensor());
  const Values none(static_cast<size_t>(d_), 0);
  const auto exact = naive<double>(none).y;
  const auto plain = naive<float>(none).y;
  expect_parity(bare, exact, plain);
  expect_parity(y, with(exact, bias, y.start()), with(plain, bias, y.start()));
}

TEST_P(DoraParity, Backward) {
  ParityMatrix& dz = matrix("dz", d_, Role::kOut);
  ParityMatrix& alone = matrix("alone", d_, Role::kOut);
  ParityMatrix& dmagnitude = vector("dmagnitude", d_, DType::kF32, Role::kInOut);
  run_kernels([&] {
    cuda::dora_backward(dz.device(), dmagnitude.device_f32(), dy_.device(), z_.device(),
                        magnitude_.device(), norm_.device_f32(), stream_);
    cuda::dora_backward(alone.device(), nullptr, dy_.device(), z_.device(), magnitude_.device(),
                        norm_.device_f32(), stream_);
  });
  cpu().dora_backward(dz.host(), dmagnitude.host_vector(), dy_.host(), z_.host(),
                      magnitude_.host_vector(), norm_.host_vector());
  const auto exact = naive<double>(dmagnitude.start());
  const auto plain = naive<float>(dmagnitude.start());
  expect_parity(dz, exact.dz, plain.dz);
  expect_parity(dmagnitude, exact.dmagnitude, plain.dmagnitude, kGradientFactor);
  EXPECT_TRUE(same_bits(alone.of_gpu(), dz.of_gpu()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, DoraParity, testing::ValuesIn(parity_cases()), name_of_case);

}  // namespace
}  // namespace facet::kernel_test
