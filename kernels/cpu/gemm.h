// Matrix products of fp32 by oneDNN.
#pragma once

#include "kernels/cpu/matrix.h"

namespace facet {

enum class Transpose : char { kNo = 'N', kYes = 'T' };

// C = alpha op(A) op(B) + beta C; sizes come from C and A. beta = 0 does not read C.
void gemm(Transpose transpose_a, Transpose transpose_b, float alpha, const Matrix& a,
          const Matrix& b, float beta, const Matrix& c);

}  // namespace facet
