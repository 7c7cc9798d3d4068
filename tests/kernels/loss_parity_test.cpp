// The kernels at both ends of the decoder, splice and cross-entropy, against the CPU backend and
// fp64.
#include <algorithm>
#include <map>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

class LossParity : public Parity {
 protected:
  static constexpr int32_t kVocabulary = 5;
  void check_splice(std::vector<int32_t> source);
};
class SpliceOfManyRows : public LossParity {};

template <typename T>
std::pair<std::vector<T>, std::vector<T>> naive_cross_entropy(const Values& logits,
                                                              const std::vector<int32_t>& labels,
                                                              int64_t cols, T scale) {
  std::vector<T> loss, gradient;
  for (size_t r = 0; r < labels.size(); ++r) {
    const double* row = logits.data() + r * static_cast<size_t>(cols);
    const T highest = static_cast<T>(*std::max_element(row, row + cols));
    T sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(static_cast<T>(row[c]) - highest);
    loss.push_back(std::log(sum) + highest - static_cast<T>(row[labels[r]]));
    for (int64_t c = 0; c < cols; ++c)
      gradient.push_back(scale * (std::exp(static_cast<T>(row[c]) - highest) / sum -
                                  (c == labels[r] ? T(1) : T(0))));
  }
  return {loss, gradient};
}

TEST_P(LossParity, CrossEntropy) {
  constexpr float kScale = 8.5f;
  std::vector<int32_t> labels;
  for (int64_t r = 0; r < n_; ++r) labels.push_back(static_cast<int32_t>((5 * r + d_ / 2) % d_));
  const DeviceBuffer<int32_t> device_labels(labels, stream_);
  const Tensor host_labels(labels.data(), {n_}, DType::kI32);
  ParityMatrix& logits = matrix("logits", d_, Role::kIn);
  ParityMatrix& gradient = matrix("logits", d_, Role::kInOut);
  ParityMatrix& loss = vector("loss", n_, DType::kF32, Role::kOut);
  ParityMatrix& loss_again = vector("loss_again", n_, DType::kF32, Role::kOut);
  run_kernels([&] {
    cuda::cross_entropy_forward(loss.device_f32(), logits.device(), device_labels.data(), stream_);
    cuda::cross_entropy_forward_backward(loss_again.device_f32(), gradient.device(),
                                         device_labels.data(), kScale, stream_);
  });
  cpu().cross_entropy_forward(loss.host_vector(), logits.host(), host_labels);
  cpu().cross_entropy_forward_backward(loss_again.host_vector(), gradient.host(), host_labels,
                                       kScale);
  const auto exact = naive_cross_entropy<double>(logits.start(), labels, d_, kScale);
  const auto naive = naive_cross_entropy<float>(logits.start(), labels, d_, kScale);
  expect_parity(loss, exact.first, naive.first);
  expect_parity(gradient, exact.second, naive.second, kGradientFactor);
  EXPECT_EQ(loss.of_gpu(), loss_again.of_gpu());
}

// The gradient of the table, added in fp32 by segments of a token's rows and then by segments.
Values add_by_segments(const ParityMatrix& dembed, const ParityMatrix& dx,
                       const std::vector<int32_t>& source, int64_t cols) {
  std::map<int32_t, std::vector<int64_t>> rows_of;
  for (size_t r = 0; r < source.size(); ++r)
    if (source[r] >= 0) rows_of[source[r]].push_back(static_cast<int64_t>(r));
  Values result = dembed.start();
  for (const auto& [token, rows] : rows_of)
    for (int64_t c = 0; c < cols; ++c) {
      const bool frequent = rows.size() > cuda::kSpliceSegment;
      double& total = result[static_cast<size_t>(token * cols + c)];
      for (size_t begin = 0; begin < rows.size(); begin += cuda::kSpliceSegment) {
        float sum = frequent ? 0.0f : static_cast<float>(total);
        for (size_t i = begin; i < std::min(begin + cuda::kSpliceSegment, rows.size()); ++i)
          sum += static_cast<float>(dx.start()[static_cast<size_t>(rows[i] * cols + c)]);
        total = frequent ? static_cast<float>(total) + sum : sum;
      }
    }
  return result;
}

Values exact_sums(const ParityMatrix& dembed, const ParityMatrix& dx,
                  const std::vector<int32_t>& source, int64_t cols) {
  Values result = dembed.start();
  for (size_t i = 0; i < dx.start().size(); ++i) {
    const auto c = static_cast<int64_t>(i) % cols;
    const int32_t token = source[i / static_cast<size_t>(cols)];
    if (token >= 0) result[static_cast<size_t>(token * cols + c)] += dx.start()[i];
  }
  return result;
}

void LossParity::check_splice(std::vector<int32_t> source) {
  const auto is_image = [](int32_t s) { return s < 0; };
  const auto images = std::count_if(source.begin(), source.end(), is_image);
  const DeviceBuffer<int32_t> device_source(source, stream_);
  const Tensor host_source(source.data(), {n_}, DType::kI32);
  const int64_t image_rows = std::max<int64_t>(images, 1);
  ParityMatrix& embed = add("embed", kVocabulary, d_, gap_, dtype_, Role::kIn);
  ParityMatrix& image = add("image", image_rows, d_, gap_, dtype_, Role::kIn);
  ParityMatrix &x = matrix("x", d_, Role::kOut), &dx = matrix("dx", d_, Role::kIn);
  ParityMatrix& dembed = add("dembed", kVocabulary, d_, gap_, DType::kF32, Role::kInOut);
  ParityMatrix& dimage = add("dimage", image_rows, d_, gap_, dtype_, Role::kOut);
  const DeviceBuffer<char> workspace(cuda::splice_workspace_bytes(n_, d_));
  run_kernels([&] {
    cuda::splice_forward(x.device(), embed.device(), image.device(), device_source.data(), stream_);
    cuda::splice_backward(dembed.device(), dimage.device(), dx.device(), device_source.data(),
                          workspace.data(), stream_);
  });
  cpu().splice_forward(x.host(), embed.host(), image.host(), host_source);
  cpu().splice_backward(dembed.host(), dimage.host(), dx.host(), host_source);
  EXPECT_EQ(x.of_gpu(), x.of_cpu());
  EXPECT_EQ(dembed.of_gpu(), add_by_segments(dembed, dx, source, d_));
  const Values exact = exact_sums(dembed, dx, source, d_);
  EXPECT_LE(relative_error(dembed.of_gpu(), exact),
            relative_error(dembed.of_cpu(), exact) + kRoundings);
  if (n_ <= cuda::kSpliceSegment) {
    EXPECT_EQ(dembed.of_gpu(), dembed.of_cpu());  // sums in the order of the rows
  }
  if (images > 0) {
    EXPECT_EQ(dimage.of_gpu(), dimage.of_cpu());
  }
}

TEST_P(LossParity, Splice) {
  // Tokens that come back, and every image row once.
  std::vector<int32_t> source;
  int32_t images = 0;
  for (int64_t r = 0; r < n_; ++r)
    source.push_back(r % 3 == 1 ? -1 - images++ : static_cast<int32_t>(r * r % kVocabulary));
  check_splice(std::move(source));
}

// Most rows are of one token; others have a segment of rows, a row more, two segments and a few
// rows.
TEST_P(SpliceOfManyRows, Splice) {
  std::vector<int32_t> source;
  for (int64_t r = 0; r < cuda::kSpliceSegment; ++r) {
    source.insert(source.end(), {0, 2, 4, 2});
    if (r % 32 == 0) source.push_back(1);
    if (r % 10 == 0) source.push_back(-1 - static_cast<int32_t>(r / 10));
  }
  source.push_back(0);
  while (source.size() < static_cast<size_t>(n_)) source.push_back(3);
  check_splice(std::move(source));
}

// With a row more than some segments, the last takes the last place of the workspace.
TEST_P(SpliceOfManyRows, OneToken) {
  check_splice(std::vector<int32_t>(static_cast<size_t>(n_), kVocabulary - 1));
}

INSTANTIATE_TEST_SUITE_P(Rows, SpliceOfManyRows,
                         testing::Values(ParityCase{DType::kF32, 1400, 7, 1},
                                         ParityCase{DType::kBF16, 1281, 8, 0}),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Sizes, LossParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, LossParity,
                         testing::ValuesIn(real_cases({{512, 32002}, {8192, 4096}})), name_of_case);

}  // namespace
}  // namespace facet::kernel_test
