// Attention by cuDNN against facet's kernels, each the other's oracle. On a GPU only.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/backend.h"
#include "tests/kernels/mirrored.h"
#include "tests/ops/half_operands.h"

namespace facet::kernel_test {
namespace {

using op_test::StoredMatrix;
using op_test::Values;

struct Shape {
  std::string name;
  AttentionPlan plan;
  int64_t queries, keys;  // rows of all samples
};

// Of CLIP, of the perceiver, and of text in samples of like and unlike lengths.
std::vector<Shape> shapes() {
  std::vector<Shape> all = {{"clip", {}, 2 * 577, 2 * 577},
                            {"perceiver", {}, 3 * 64, 3 * 257},
                            {"causal", {}, 514, 514},
                            {"packed", {}, 431, 431}};
  make_full_plan(all[0].plan, 2, 577, 577);
  make_full_plan(all[1].plan, 3, 64, 257);
  make_causal_plan(all[2].plan, {0, 257, 514});
  make_causal_plan(all[3].plan, {0, 97, 194, 195, 431});
  return all;
}

Values waves(int64_t count, double step) {
  Values values;
  for (int64_t i = 0; i < count; ++i) values.push_back(std::sin(step * static_cast<double>(i)));
  return values;
}

double norm_of_difference(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// Forward and backward: out, lse, dq, dk, dv.
std::vector<Values> results(CudaBackend& cuda, const Shape& shape, DType dtype, int64_t width) {
  constexpr int64_t kHeads = 3, kGap = 8;
  const int64_t cols = kHeads * width;
  StoredMatrix q(shape.queries, cols, kGap, dtype), k(shape.keys, cols, kGap, dtype),
      v(shape.keys, cols, kGap, dtype), dout(shape.queries, cols, 0, dtype),
      out(shape.queries, cols, 0, dtype), lse(1, kHeads * shape.queries, 0, DType::kF32),
      dq(shape.queries, cols, kGap, dtype), dk(shape.keys, cols, kGap, dtype),
      dv(shape.keys, cols, kGap, dtype);
  q.set(waves(shape.queries * cols, 0.37));
  k.set(waves(shape.keys * cols, 0.73));
  v.set(waves(shape.keys * cols, 1.19));
  dout.set(waves(shape.queries * cols, 0.91));
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  const Tensor statistics = lse.tensor().view({1, kHeads, shape.queries});
  Mirrored backend(cuda);
  backend.attention_forward(out.tensor(), statistics, Tensor(), q.tensor(), k.tensor(), v.tensor(),
                            shape.plan, kHeads, kHeads, scale);
  backend.attention_backward(dq.tensor(), dk.tensor(), dv.tensor(), dout.tensor(), q.tensor(),
                             k.tensor(), v.tensor(), out.tensor(), Tensor(), statistics, Rotation(),
                             Rotation(), shape.plan, kHeads, kHeads, scale);
  backend.finish();
  return {out.values(), lse.values(), dq.values(), dk.values(), dv.values()};
}

class CudnnAttention : public testing::Test {
 protected:
  void SetUp() override {
    try {
      by_cudnn_.take_cudnn();
    } catch (const Error& error) {
      GTEST_SKIP() << "no cuDNN on this machine: " << error.what();
    }
  }
  CudaBackend by_facet_{kSmallSizes}, by_cudnn_{kSmallSizes};
};

// Both round P and dS to 16 bits before they multiply, and every output: a few roundings apart.
TEST_F(CudnnAttention, IsThatOfTheKernelsHere) {
  const char* const names[] = {"out", "lse", "dq", "dk", "dv"};
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const int64_t width : {64, 80, 128})
      for (const Shape& shape : shapes()) {
        const auto expected = results(by_facet_, shape, dtype, width);
        const auto found = results(by_cudnn_, shape, dtype, width);
        for (size_t i = 0; i < expected.size(); ++i) {
          const double size = norm_of_difference(expected[i], Values(expected[i].size(), 0.0));
          EXPECT_LE(norm_of_difference(found[i], expected[i]),
                    size * (dtype == DType::kBF16 ? 0x1p-6 : 0x1p-9))
              << names[i] << " of " << shape.name << " in " << name_of(dtype) << ", width "
              << width;
        }
      }
}

TEST_F(CudnnAttention, EveryRunGivesTheSameBits) {
  for (const Shape& shape : shapes()) {
    const auto first = results(by_cudnn_, shape, DType::kBF16, 64);
    for (int run = 0; run < 5; ++run)
      EXPECT_EQ(results(by_cudnn_, shape, DType::kBF16, 64), first) << shape.name;
  }
}

TEST_F(CudnnAttention, FewerHeadsOfKeysAreRefused) {
  StoredMatrix q(4, 128, 0, DType::kBF16), k(4, 64, 0, DType::kBF16), out(4, 128, 0, DType::kBF16),
      lse(1, 8, 0, DType::kF32);
  AttentionPlan plan;
  make_causal_plan(plan, {0, 4});
  Mirrored backend(by_cudnn_);
  EXPECT_THROW(backend.attention_forward(out.tensor(), lse.tensor().view({1, 2, 4}), Tensor(),
                                         q.tensor(), k.tensor(), k.tensor(), plan, 2, 1, 1),
               Error);
}

}  // namespace
}  // namespace facet::kernel_test
