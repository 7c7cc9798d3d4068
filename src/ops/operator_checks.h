// What the public functions of Backend demand of the operands of one call. A failure is a bug of
// ours, and its message names the operator, the operand and both shapes. Absent operands pass, but
// for given(). Shapes are those of matrices: leading dimensions are folded into rows.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "device/tensor.h"

namespace facet {

class OperatorChecks {
 public:
  // `name` of the operator: __func__.
  explicit OperatorChecks(const char* name) : name_(name) {}

  const char* name() const { return name_; }

  // None is absent.
  void given(std::initializer_list<Tensor> operands) const;

  // ---- types
  // All of one type: fp32, bf16 or fp16.
  void activations(std::initializer_list<Tensor> operands) const;
  // Each fp32, bf16 or fp16.
  void floats(std::initializer_list<Tensor> operands) const;
  void fp32(std::initializer_list<Tensor> operands) const;
  // Read as it is stored: of the type of `other`, or of 16 bits where that is fp32.
  void same_or_narrower(const Tensor& t, const Tensor& other) const;
  // Of one type, whichever it is.
  void one_type(const Tensor& a, const Tensor& b) const;

  // ---- shapes
  void matrix(const char* operand, const Tensor& t, int64_t rows, int64_t cols) const;
  void like(const char* operand, const Tensor& t, const Tensor& other) const {
    matrix(operand, t, other.rows(), other.cols());
  }
  // Any number of rows, as wide as `other`.
  void as_wide(const char* operand, const Tensor& t, const Tensor& other) const {
    matrix(operand, t, t.defined() ? t.rows() : 0, other.cols());
  }
  void dense(const char* operand, const Tensor& t) const;
  // That many elements, without gaps.
  void vector(const char* operand, const Tensor& t, int64_t count) const;
  void fp32_vector(const char* operand, const Tensor& t, int64_t count) const;
  void int32_vector(const char* operand, const Tensor& t, int64_t count) const;
  // all = copies of rows, one below the other.
  void repeated(const Tensor& all, const Tensor& rows) const;
  // Rows that are the points of a square grid.
  void square_grid(const char* operand, const Tensor& t) const;

 private:
  void type(const char* operand, const Tensor& t, DType expected) const;

  const char* name_;
};

}  // namespace facet
