// The arithmetic of the emulated cuBLASLt: D = alpha op(A) op(B) + beta C + bias on the host,
// summed in fp32 and rounded once.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace facet::emulated {

// A matrix with a stride (in elements) per dimension, so that a transpose is another view.
struct StridedMatrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  int64_t row_step = 0, col_step = 0;
};

inline StridedMatrix transposed(const StridedMatrix& x) {
  return {x.data, x.dtype, x.cols, x.rows, x.col_step, x.row_step};
}

// The input precision, and how partial sums are kept.
enum class InputPrecision : uint8_t { kFull, kTF32 };
enum class PartialSums : uint8_t { kFP32, kOutputType };

struct HostProduct {
  StridedMatrix a, b, c, d;   // (M,K), (K,N), (M,N), (M,N)
  float alpha = 1, beta = 0;  // beta 0 does not read C
  StridedMatrix bias;         // (M,1) or without data
  InputPrecision inputs = InputPrecision::kFull;
  PartialSums partial_sums = PartialSums::kFP32;
  int64_t depth = 256;  // after which a partial sum is added to the others

  void compute() const;
};

}  // namespace facet::emulated
