// Matrix products of fp32 by oneDNN.
#pragma once

#include "kernels/cpu/matrix.h"

namespace facet {

enum class Transpose : char { kNo = 'N', kYes = 'T' };

// C = alpha op(A) op(B) + beta C; sizes come from C and A. beta = 0 does not read C. Shapes that do
// not fit are Error(kInternal).
void gemm(Transpose transpose_a, Transpose transpose_b, float alpha, const Matrix& a,
          const Matrix& b, float beta, const Matrix& c);

// The same of A and B', each thread with columns of C of its own. oneDNN's own division among
// threads gives them parts that are too small to be fast where C has few hundred rows. The last
// bits depend on the number of threads where oneDNN takes another kernel for fewer columns.
void gemm_by_columns(const Matrix& a, const Matrix& b, float beta, const Matrix& c);

}  // namespace facet
