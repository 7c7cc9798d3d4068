// Kernels against the CPU backend and against fp64: one operand of an operator lives in host memory
// for the CPU backend and in device memory for the kernel, with the same values, gaps and guards.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "kernels/cpu/backend.h"
#include "kernels/cuda/operand_of.h"
#include "ops/half_storage.h"
#include "tests/kernels/device_buffer.h"
#include "tests/ops/half_operands.h"

namespace facet::kernel_test {

using op_test::relative_error;
using op_test::Role;
using op_test::Values;

inline Values rounded(Values values, DType dtype) {
  for (double& value : values) {
    const auto fp32 = static_cast<float>(value);
    value = is_16_bit(dtype) ? float_from_16_bits(round_to_16_bits(fp32, dtype), dtype) : fp32;
  }
  return values;
}

struct ParityCase {
  DType dtype;
  int64_t rows, cols;
  int64_t gap;  // between rows: 0, or to a 16-byte boundary, or to none
};

inline void PrintTo(const ParityCase& c, std::ostream* out) {
  *out << name_of(c.dtype) << " (" << c.rows << ", " << c.cols << ") gap " << c.gap;
}

// Whether every size is wanted in every build, type and mode: `make check-kernels-full`.
inline bool whole_matrix() { return std::getenv("FACET_WHOLE_MATRIX") != nullptr; }

// Every pair of these sizes in every type, rows that begin on 16-byte boundaries (with a tail after
// the last pack) and rows that don't; a row of more than one iteration of a block. The builds that
// watch every access take fewer rows: what they see does not change with the number of rows.
inline std::vector<ParityCase> parity_cases() {
  const bool watched = every_access_is_watched();
  std::vector<ParityCase> cases;
  std::vector<int64_t> sizes = {1, 7, 97, 257};
  if (whole_matrix() && !watched) sizes.push_back(1025);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int64_t rows : sizes)
      for (const int64_t cols : sizes) {
        if (watched && rows > 7 && !whole_matrix()) continue;
        cases.push_back({dtype, rows, cols, 1 + rows % 2});
        if (rows == 7 || whole_matrix()) cases.push_back({dtype, rows, cols, (8 - cols % 8) % 8});
      }
    cases.push_back({dtype, 2, 4096 + 8, 0});
  }
  return cases;
}

// Rows and columns as they are in a training step of Llama-2-7b and CLIP ViT-L/14 with 8192 tokens,
// in bf16: `make check-kernels-full`. None in the builds that watch every access.
inline std::vector<ParityCase> real_cases(
    std::initializer_list<std::pair<int64_t, int64_t>> sizes) {
  std::vector<ParityCase> cases;
  if (!whole_matrix() || every_access_is_watched()) return cases;
  for (const auto& [rows, cols] : sizes) cases.push_back({DType::kBF16, rows, cols, 0});
  return cases;
}

inline std::string name_of_case(const testing::TestParamInfo<ParityCase>& info) {
  const auto& [dtype, rows, cols, gap] = info.param;
  return fmt::format("{}_{}x{}_gap{}", name_of(dtype), rows, cols, gap);
}

inline bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

// A matrix on both sides.
class ParityMatrix {
 public:
  ParityMatrix(const TestStream& stream, const std::string& name, int64_t rows, int64_t cols,
               int64_t gap, DType dtype, Role role)
      : stream_(stream),
        role_(role),
        cpu_(rows, cols, gap, dtype),
        gpu_(rows, cols, gap, dtype),
        bytes_(static_cast<size_t>(rows * (cols + gap) * size_of(dtype))),
        device_(static_cast<int64_t>(bytes_)) {
    if (role != Role::kOut) start_ = rounded(op_test::random_values(rows * cols, name), dtype);
    set(start_);
  }

  // Other values than random ones: on both sides.
  void set(const Values& values) {
    if (role_ != Role::kOut) {
      start_ = values;
      cpu_.set(values);
      gpu_.set(values);
    }
    upload();
  }
  Tensor host() { return cpu_.tensor(); }
  Tensor host_vector() { return cpu_.tensor().view({cpu_.tensor().numel()}); }
  cuda::Operand device() {
    cuda::Operand operand = cuda::operand_of(gpu_.tensor());
    operand.data = device_.data();
    return operand;
  }
  float* device_f32() { return reinterpret_cast<float*>(device_.data()); }

  const Values& start() const { return start_; }
  DType dtype() const { return cpu_.dtype(); }
  Values of_cpu() const { return cpu_.values(); }
  // Fetched from the device; the gaps must be as they were.
  Values of_gpu() {
    check_cuda(cudaMemcpyAsync(gpu_.tensor().raw(), device_.data(), bytes_, cudaMemcpyDeviceToHost,
                               stream_),
               "cannot fetch a matrix");
    stream_.synchronize();
    return gpu_.values();
  }
  // What the device held at first, for another run.
  void upload() {
    if (role_ == Role::kOut) gpu_.set(Values(gpu_.values().size(), std::nan("")));
    if (role_ == Role::kInOut) gpu_.set(start_);
    check_cuda(cudaMemcpyAsync(device_.data(), gpu_.tensor().raw(), bytes_, cudaMemcpyHostToDevice,
                               stream_),
               "cannot fill a matrix");
    stream_.synchronize();
  }

 private:
  const TestStream& stream_;
  Role role_;
  op_test::StoredMatrix cpu_, gpu_;
  size_t bytes_;
  DeviceBuffer<char> device_;
  Values start_;
};

// The operands of one operator and both backends.
class ParityRig : public testing::Test {
 protected:
  explicit ParityRig(const ParityCase& c) : dtype_(c.dtype), n_(c.rows), d_(c.cols), gap_(c.gap) {}

  const DType dtype_;
  const int64_t n_, d_, gap_;
  TestStream stream_;

  Backend& cpu() { return is_16_bit(dtype_) ? static_cast<Backend&>(half_) : cpu_; }

  ParityMatrix& matrix(const std::string& name, int64_t cols, Role role) {
    return add(name, n_, cols, gap_, dtype_, role);
  }
  ParityMatrix& vector(const std::string& name, int64_t count, DType dtype, Role role) {
    return add(name, 1, count, 0, dtype, role);
  }
  ParityMatrix& add(const std::string& name, int64_t rows, int64_t cols, int64_t gap, DType dtype,
                    Role role) {
    matrices_.push_back(
        std::make_unique<ParityMatrix>(stream_, name, rows, cols, gap, dtype, role));
    if (role != Role::kIn) outputs_.push_back(matrices_.back().get());
    return *matrices_.back();
  }

  // Runs the kernels; few rows in every order of threads.
  template <typename Launch>
  void run_kernels(const Launch& launch) {
    launch();
    constexpr int64_t kFewRows = 7;
    if (n_ <= kFewRows) expect_same_bits_in_every_order(launch);
  }

  template <typename Launch>
  void expect_same_bits_in_every_order(const Launch& launch) {
    std::vector<Values> first;
    for (ParityMatrix* output : outputs_) first.push_back(output->of_gpu());
    for_other_thread_orders([&] {
      for (ParityMatrix* output : outputs_) output->upload();
      launch();
      for (size_t i = 0; i < outputs_.size(); ++i)
        EXPECT_TRUE(same_bits(outputs_[i]->of_gpu(), first[i]));
    });
  }

  // A few roundings of fp32, where naive arithmetic happens to be exact on a few numbers.
  static constexpr double kRoundings = 3e-7;

  // The kernel is at most `factor` times as far from fp64 as naive fp32 arithmetic whose result is
  // rounded to the output's type, and as near to the CPU backend. `terms`: how much larger than the
  // result what it is the difference of may be (a fused multiply-add rounds one of two equal ones).
  void expect_parity(ParityMatrix& output, const Values& exact, const std::vector<float>& naive,
                     double factor = 2, double terms = 1) {
    const Values plain = rounded(Values(naive.begin(), naive.end()), output.dtype());
    const double bound = factor * relative_error(plain, exact) + kRoundings * terms;
    const Values gpu = output.of_gpu();
    EXPECT_LE(relative_error(gpu, exact), bound);
    EXPECT_LE(relative_error(gpu, output.of_cpu()), bound);
  }

 private:
  CpuBackend cpu_{1};
  HalfStorage half_{cpu_, int64_t{1} << 28};  // reserved, not touched
  std::vector<std::unique_ptr<ParityMatrix>> matrices_;
  std::vector<ParityMatrix*> outputs_;
};

class Parity : public ParityRig, public testing::WithParamInterface<ParityCase> {
 protected:
  Parity() : ParityRig(GetParam()) {}
};

constexpr double kGradientFactor =
    3;  // of the error of naive fp32, against fp64: sums run in another order

}  // namespace facet::kernel_test
