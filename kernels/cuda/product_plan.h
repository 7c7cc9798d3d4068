// A product of cuBLASLt: what the choice of its algorithm depends on, and the descriptors and the
// algorithms of products of one shape.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/cublaslt.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

// A matrix as cuBLASLt sees it. It is column-major: a row-major matrix is its transpose there.
struct ProductLayout {
  DType dtype;
  int64_t rows, cols, stride;
  uint32_t alignment;

  explicit ProductLayout(const Operand& x);
  auto operator<=>(const ProductLayout&) const = default;
};

// Everything that the choice of an algorithm depends on.
struct ProductKey {
  cublasOperation_t transpose_a, transpose_b;
  ProductLayout a, b, c, d;
  uint32_t bias_alignment;  // 0: no bias
  auto operator<=>(const ProductKey&) const = default;

  // The rows of the activations, which differ from batch to batch; all else is the model's.
  int64_t rows() const { return b.cols; }
  // All of it but the rows, in words.
  std::string text_without_rows() const;
};

// D = op(A) op(B) + C + bias, with the operands in cuBLASLt's order: y = x W' is D' = W x'.
struct Product {
  cublasOperation_t transpose_a, transpose_b;
  Operand a, b, c, d;  // no C if c has no data
  Operand bias = {};

  ProductKey key() const;
  bool in_place() const { return c.data && c.data == d.data; }
};

// What products run with.
struct ProductSite {
  cublasLtHandle_t handle;
  void* workspace;
  size_t workspace_bytes;
  cudaStream_t stream;
};

// Throws Error(kInternal) unless a call of cuBLASLt succeeded; `what` says what it could not do.
void check_cublaslt(cublasStatus_t status, const char* what);

// cuBLASLt's descriptors, owned.
class MatrixLayout {
 public:
  explicit MatrixLayout(const ProductLayout& x);
  ~MatrixLayout() { cublasLtMatrixLayoutDestroy(layout_); }
  MatrixLayout(const MatrixLayout&) = delete;
  MatrixLayout& operator=(const MatrixLayout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class ProductDescription {
 public:
  ProductDescription();
  ~ProductDescription() { cublasLtMatmulDescDestroy(description_); }
  ProductDescription(const ProductDescription&) = delete;
  ProductDescription& operator=(const ProductDescription&) = delete;
  operator cublasLtMatmulDesc_t() const { return description_; }

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    check_cublaslt(cublasLtMatmulDescSetAttribute(description_, attribute, &value, sizeof value),
                   "describe a product");
  }

 private:
  cublasLtMatmulDesc_t description_ = nullptr;
};

// Products of one shape, by the first of up to eight algorithms that starts. There is no preference
// for the alignment of the bias: cuBLASLt uses that of the pointer set while it chooses.
class ProductPlan {
 public:
  // With the algorithms that cuBLASLt proposes, in its order. Throws Error(kInternal) if there is
  // none.
  ProductPlan(const ProductSite& site, const ProductKey& key, const void* bias);

  // Puts an algorithm that was chosen for other rows, or by another process, in front of the
  // others; false if it cannot be used here.
  bool prefer(const ProductSite& site, const cublasLtMatmulAlgo_t& algorithm);

  // Times the algorithms on this product and puts the fastest in front. D holds the product
  // afterwards; one that is added to in place keeps its values, but for what 1e-30 times the
  // product adds to zeros.
  void time(const ProductSite& site, const Product& product);

  // An algorithm that fails to start is given up, with a warning, for the next one; throws
  // Error(kInternal) when none is left.
  void run(const ProductSite& site, const Product& product);

  const cublasLtMatmulAlgo_t& algorithm() const { return candidates_.front().algo; }

 private:
  using Candidate = cublasLtMatmulHeuristicResult_t;

  cublasStatus_t start(const ProductSite& site, const Product& product, const Candidate& candidate,
                       float alpha);
  std::optional<float> milliseconds(const ProductSite& site, const Product& product,
                                    const Candidate& candidate);
  void set_bias(const void* bias);
  void warn_of(const Candidate& candidate, cublasStatus_t status) const;

  std::string text_;  // of the key, for messages
  ProductDescription description_;
  MatrixLayout a_, b_, c_, d_;
  std::vector<Candidate> candidates_;  // the best first
};

}  // namespace facet::cuda
