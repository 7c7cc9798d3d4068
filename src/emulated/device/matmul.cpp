#include "emulated/device/matmul.h"

#include "emulated/device/violation.h"

namespace facet::emulated {
namespace {

template <typename T>
const T& checked(const T* descriptor, Site where) {
  if (!descriptor) violation(where, "a descriptor of the product is null");
  return *descriptor;
}

}  // namespace

Footprint MatrixLayout::footprint(const void* data) const {
  const int64_t element = size_of(dtype_of(type));
  return {static_cast<const char*>(data), line_elements() * element, ld * element, lines()};
}

StridedMatrix MatrixLayout::matrix(const void* data, cublasOperation_t operation) const {
  const bool by_col = order == CUBLASLT_ORDER_COL;
  const StridedMatrix matrix{const_cast<void*>(data), dtype_of(type), rows, cols,
                             by_col ? 1 : ld,         by_col ? ld : 1};
  return operation == CUBLAS_OP_T ? transposed(matrix) : matrix;
}

Matmul::Matmul(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Site where)
    : description(checked(description, where)),
      a(checked(a, where)),
      b(checked(b, where)),
      c(checked(c, where)),
      d(checked(d, where)),
      where(where) {
  check_sizes();
  check_types();
}

void Matmul::check_sizes() const {
  for (const MatrixLayout* x : {&a, &b, &c, &d})
    if (x->ld < x->line_elements())
      violation(where, "a leading dimension of {} for lines of {}", x->ld, x->line_elements());
  const auto left = a.matrix(nullptr, description.transpose_a);
  const auto right = b.matrix(nullptr, description.transpose_b);
  if (left.rows != d.rows || right.cols != d.cols || left.cols != right.rows)
    violation(where, "a product of ({}, {}) and ({}, {}) into ({}, {})", left.rows, left.cols,
              right.rows, right.cols, d.rows, d.cols);
  if (c.rows != d.rows || c.cols != d.cols || c.order != d.order)
    violation(where, "C ({}, {}) and D ({}, {}) are of different sizes or orders", c.rows, c.cols,
              d.rows, d.cols);
}

// The combinations of a CUBLAS_COMPUTE_32F product with fp32 factors that cuBLASLt lists for these
// types.
void Matmul::check_types() const {
  const bool outputs = c.type == d.type && (d.type == a.type || d.type == CUDA_R_32F);
  if (a.type != b.type || !outputs)
    violation(where, "cuBLASLt has no product of {} and {} with C of {} and D of {}",
              name_of(dtype_of(a.type)), name_of(dtype_of(b.type)), name_of(dtype_of(c.type)),
              name_of(dtype_of(d.type)));
  if (description.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type != CUDA_R_32F)
    violation(where, "TF32 products are of fp32 inputs, these are {}", name_of(dtype_of(a.type)));
}

uint64_t Matmul::fingerprint() const {
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](auto value) {
    hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001b3;
    hash ^= hash >> 29;
  };
  for (const MatrixLayout* x : {&a, &b, &c, &d})
    for (const int64_t value : {int64_t{x->type}, x->rows, x->cols, x->ld, int64_t{x->order}})
      mix(value);
  mix(description.compute);
  mix(description.transpose_a);
  mix(description.transpose_b);
  mix(description.epilogue);
  return hash;
}

}  // namespace facet::emulated
