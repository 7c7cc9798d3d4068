// Cross-entropy. row_loss (R) = log(sum(exp(logits))) - logits[label] from logits (R,V) and labels
// (R) int32, overwritten. forward_backward also overwrites logits by gradient_scale (softmax -
// onehot). Parallel over rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace facet {
namespace {

void check_labels(const int32_t* labels_R, const Matrix& logits) {
  for (int64_t r = 0; r < logits.rows; ++r)
    ASSERT(labels_R[r] >= 0 && labels_R[r] < logits.cols, "row {}: label {} of {} classes", r,
           labels_R[r], logits.cols);
}

// Partial sums of this length keep a sum over a large vocabulary as accurate as a short one.
constexpr int64_t kChunk = 4096;

float max_of(const float* row, int64_t cols) {
  float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
  for (int64_t c = 0; c < cols; ++c) highest = row[c] > highest ? row[c] : highest;
  return highest;
}

double sum_exp(const float* row, float highest, int64_t cols) {
  double total = 0;
  for (int64_t begin = 0; begin < cols; begin += kChunk) {
    const int64_t end = std::min(cols, begin + kChunk);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) sum += fast_exp(row[c] - highest);
    total += sum;
  }
  return total;
}

// As sum_exp, and overwrites the row by the summands.
double exp_in_place(float* row, float highest, int64_t cols) {
  double total = 0;
  for (int64_t begin = 0; begin < cols; begin += kChunk) {
    const int64_t end = std::min(cols, begin + kChunk);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) {
      row[c] = fast_exp(row[c] - highest);
      sum += row[c];
    }
    total += sum;
  }
  return total;
}

float loss_of(float label_logit, float highest, double sum) {
  return static_cast<float>(std::log(sum) + static_cast<double>(highest) -
                            static_cast<double>(label_logit));
}

}  // namespace

void CpuBackend::do_cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) {
  const Matrix logits_RV(logits);
  const int32_t* labels_R = labels.i32();
  float* loss_R = row_loss.f32();
  check_labels(labels_R, logits_RV);
  for_rows(logits_RV.rows, logits_RV.cols, [=](int64_t r) {
    const float* row = logits_RV.row(r);
    const float highest = max_of(row, logits_RV.cols);
    loss_R[r] = loss_of(row[labels_R[r]], highest, sum_exp(row, highest, logits_RV.cols));
  });
}

void CpuBackend::do_cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                                   float gradient_scale) {
  const Matrix logits_RV(logits);
  const int32_t* labels_R = labels.i32();
  float* loss_R = row_loss.f32();
  check_labels(labels_R, logits_RV);
  for_rows(logits_RV.rows, logits_RV.cols, [=](int64_t r) {
    float* row = logits_RV.row(r);
    const int64_t cols = logits_RV.cols;
    const float highest = max_of(row, cols), label_logit = row[labels_R[r]];
    const double sum = exp_in_place(row, highest, cols);
    loss_R[r] = loss_of(label_logit, highest, sum);
    const float scale = static_cast<float>(static_cast<double>(gradient_scale) / sum);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) row[c] *= scale;
    row[labels_R[r]] -= gradient_scale;
  });
}

}  // namespace facet
