// The operands of an operator that is run twice: with fp32 tensors as the reference, and with bf16
// or fp16 ones holding the same (rounded) values.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/half.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {

// As Matrix, of fp32, bf16 or fp16: NaN at first, guards of NaN before, after and between the rows.
class StoredMatrix {
 public:
  StoredMatrix(int64_t rows, int64_t cols, int64_t gap, DType dtype)
      : rows_(rows), cols_(cols), stride_(cols + gap), dtype_(dtype) {
    const uint32_t guard = dtype == DType::kF32 ? 0x7fc5a5a5u : 0x7fa57fa5u;
    memory_.assign(static_cast<size_t>((2 * kBand + rows * stride_) * size_of(dtype) / 4 + 1),
                   guard);
    set(Values(static_cast<size_t>(rows * cols), std::numeric_limits<double>::quiet_NaN()));
    fresh_ = memory_;
  }
  ~StoredMatrix() {
    EXPECT_TRUE(guards_intact()) << "written outside a (" << rows_ << ", " << cols_ << ")";
  }
  StoredMatrix(const StoredMatrix&) = delete;
  StoredMatrix& operator=(const StoredMatrix&) = delete;

  Tensor tensor() {
    const Tensor wide(begin(), {rows_, stride_}, dtype_);
    return stride_ == cols_ ? wide : wide.column_block(0, cols_);
  }
  DType dtype() const { return dtype_; }
  void set(const Values& values) {
    for (int64_t i = 0; i < rows_ * cols_; ++i)
      put(place(i), static_cast<float>(values[static_cast<size_t>(i)]));
  }
  Values values() const {
    Values result;
    for (int64_t i = 0; i < rows_ * cols_; ++i) result.push_back(get(place(i)));
    return result;
  }

 private:
  static constexpr int64_t kBand = 32;
  char* begin() { return reinterpret_cast<char*>(memory_.data()) + kBand * size_of(dtype_); }
  int64_t place(int64_t i) const { return kBand + i / cols_ * stride_ + i % cols_; }
  void put(int64_t at, float value) {
    char* to = reinterpret_cast<char*>(memory_.data()) + at * size_of(dtype_);
    const uint16_t word = is_16_bit(dtype_) ? round_to_16_bits(value, dtype_) : uint16_t{0};
    if (dtype_ == DType::kF32)
      std::memcpy(to, &value, sizeof value);
    else
      std::memcpy(to, &word, sizeof word);
  }
  float get(int64_t at) const {
    const char* from = reinterpret_cast<const char*>(memory_.data()) + at * size_of(dtype_);
    if (dtype_ == DType::kF32) {
      float value;
      std::memcpy(&value, from, sizeof value);
      return value;
    }
    uint16_t word;
    std::memcpy(&word, from, sizeof word);
    return float_from_16_bits(word, dtype_);
  }
  // The guards are unchanged.
  bool guards_intact() const {
    const char* now = reinterpret_cast<const char*>(memory_.data());
    const char* then = reinterpret_cast<const char*>(fresh_.data());
    const int64_t item = size_of(dtype_);
    for (int64_t at = 0; at < 2 * kBand + rows_ * stride_; ++at) {
      const int64_t offset = at - kBand;
      const bool inside = offset >= 0 && offset < rows_ * stride_ && offset % stride_ < cols_;
      if (!inside && std::memcmp(now + at * item, then + at * item, static_cast<size_t>(item)) != 0)
        return false;
    }
    return true;
  }

  int64_t rows_, cols_, stride_;
  DType dtype_;
  std::vector<uint32_t> memory_, fresh_;
};

enum class Role { kIn, kOut, kInOut };

// Operands by name. An operand that is not an output alone starts with the same random values in
// every run: values of `rounding`, held as `storage`, or as fp32 where the operator asks for it.
class Operands {
 public:
  Operands(DType storage, DType rounding) : storage_(storage), rounding_(rounding) {}

  Tensor in(const std::string& name, int64_t rows, int64_t cols) {
    return add(name, rows, cols, storage_, Role::kIn);
  }
  Tensor out(const std::string& name, int64_t rows, int64_t cols) {
    return add(name, rows, cols, storage_, Role::kOut);
  }
  Tensor in_out(const std::string& name, int64_t rows, int64_t cols) {
    return add(name, rows, cols, storage_, Role::kInOut);
  }
  Tensor fp32(const std::string& name, int64_t rows, int64_t cols, Role role) {
    return add(name, rows, cols, DType::kF32, role);
  }
  // Vectors have no gaps.
  Tensor vector(const std::string& name, int64_t count) {
    return dense(name, count, storage_, Role::kIn);
  }
  Tensor out_vector(const std::string& name, int64_t count) {
    return dense(name, count, storage_, Role::kOut);
  }
  Tensor fp32_vector(const std::string& name, int64_t count, Role role) {
    return dense(name, count, DType::kF32, role);
  }
  Tensor ints(std::vector<int32_t> values) {
    ints_.push_back(std::make_unique<std::vector<int32_t>>(std::move(values)));
    return Tensor(ints_.back()->data(), {static_cast<int64_t>(ints_.back()->size())}, DType::kI32);
  }

  const std::map<std::string, const StoredMatrix*>& outputs() const { return outputs_; }

 private:
  Tensor add(const std::string& name, int64_t rows, int64_t cols, DType dtype, Role role) {
    return make(name, rows, cols, 1 + static_cast<int64_t>(matrices_.size()) % 3, dtype, role);
  }
  Tensor dense(const std::string& name, int64_t count, DType dtype, Role role) {
    return make(name, 1, count, 0, dtype, role).view({count});
  }
  Tensor make(const std::string& name, int64_t rows, int64_t cols, int64_t gap, DType dtype,
              Role role) {
    matrices_.push_back(std::make_unique<StoredMatrix>(rows, cols, gap, dtype));
    StoredMatrix& matrix = *matrices_.back();
    if (role != Role::kOut) {
      Values values = random_values(rows * cols, name);
      for (double& value : values)
        value =
            float_from_16_bits(round_to_16_bits(static_cast<float>(value), rounding_), rounding_);
      matrix.set(values);
    }
    if (role != Role::kIn) outputs_[name] = &matrix;
    return matrix.tensor();
  }

  DType storage_, rounding_;
  std::vector<std::unique_ptr<StoredMatrix>> matrices_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> ints_;
  std::map<std::string, const StoredMatrix*> outputs_;
};

}  // namespace facet::op_test
