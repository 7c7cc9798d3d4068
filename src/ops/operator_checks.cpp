#include "ops/operator_checks.h"

#include <cmath>

namespace facet {
namespace {

bool is_float(DType dtype) { return dtype == DType::kF32 || is_16_bit(dtype); }

}  // namespace

void OperatorChecks::given(std::initializer_list<Tensor> operands) const {
  int64_t place = 0;
  for (const Tensor& t : operands) {
    ASSERT(t.defined(), "{}: required operand {} of {} is absent", name_, place + 1,
           operands.size());
    ++place;
  }
}

void OperatorChecks::activations(std::initializer_list<Tensor> operands) const {
  floats(operands);
  const Tensor* first = nullptr;
  for (const Tensor& t : operands) {
    if (!t.defined()) continue;
    if (first == nullptr) first = &t;
    one_type(*first, t);
  }
}

void OperatorChecks::floats(std::initializer_list<Tensor> operands) const {
  for (const Tensor& t : operands)
    ASSERT(!t.defined() || is_float(t.dtype()), "{}: {} {}, not fp32, bf16 or fp16", name_,
           name_of(t.dtype()), t.shape_string());
}

void OperatorChecks::fp32(std::initializer_list<Tensor> operands) const {
  for (const Tensor& t : operands)
    ASSERT(!t.defined() || t.dtype() == DType::kF32, "{}: {} {}, not fp32", name_,
           name_of(t.dtype()), t.shape_string());
}

void OperatorChecks::same_or_narrower(const Tensor& t, const Tensor& other) const {
  floats({t});
  if (other.dtype() != DType::kF32) one_type(t, other);
}

void OperatorChecks::one_type(const Tensor& a, const Tensor& b) const {
  ASSERT(!a.defined() || !b.defined() || a.dtype() == b.dtype(), "{}: {} {} and {} {} in one call",
         name_, name_of(a.dtype()), a.shape_string(), name_of(b.dtype()), b.shape_string());
}

void OperatorChecks::matrix(const char* operand, const Tensor& t, int64_t rows,
                            int64_t cols) const {
  ASSERT(!t.defined() || (t.rows() == rows && t.cols() == cols), "{}: {} is {}, not ({}, {})",
         name_, operand, t.shape_string(), rows, cols);
}

void OperatorChecks::dense(const char* operand, const Tensor& t) const {
  ASSERT(!t.defined() || t.dense(), "{}: {} {} has gaps, its rows are {} elements apart", name_,
         operand, t.shape_string(), t.row_stride());
}

void OperatorChecks::vector(const char* operand, const Tensor& t, int64_t count) const {
  ASSERT(!t.defined() || t.numel() == count, "{}: {} is {}, not ({})", name_, operand,
         t.shape_string(), count);
  dense(operand, t);
}

void OperatorChecks::fp32_vector(const char* operand, const Tensor& t, int64_t count) const {
  type(operand, t, DType::kF32);
  vector(operand, t, count);
}

void OperatorChecks::int32_vector(const char* operand, const Tensor& t, int64_t count) const {
  type(operand, t, DType::kI32);
  vector(operand, t, count);
}

void OperatorChecks::repeated(const Tensor& all, const Tensor& rows) const {
  ASSERT(all.cols() == rows.cols() &&
             (all.rows() == 0 || (rows.rows() > 0 && all.rows() % rows.rows() == 0)),
         "{}: {} is not copies of {}", name_, all.shape_string(), rows.shape_string());
}

void OperatorChecks::square_grid(const char* operand, const Tensor& t) const {
  const int64_t side = std::llround(std::sqrt(static_cast<double>(t.rows())));
  ASSERT(side * side == t.rows(), "{}: {} {} is not a square grid", name_, operand,
         t.shape_string());
}

void OperatorChecks::type(const char* operand, const Tensor& t, DType expected) const {
  ASSERT(!t.defined() || t.dtype() == expected, "{}: {} {} is {}, not {}", name_, operand,
         t.shape_string(), name_of(t.dtype()), name_of(expected));
}

}  // namespace facet
