// Which of cuBLASLt's algorithms products are computed by, and the text in which that is kept: a
// line each of the GPU and cuBLASLt's version, the product, its rows and the algorithm in
// hexadecimal digits, separated by tabs. An algorithm is meaningful to the version that proposed
// it.
//
// Rows are counted in steps of 128: packed batches have another number of them each time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "kernels/cuda/product_plan.h"

namespace facet::cuda {

class ProductChoices {
 public:
  // "NVIDIA H200, cuBLASLt 130100": the GPU in use.
  static std::string kind();

  void choose(const ProductKey& key, const cublasLtMatmulAlgo_t& algorithm);
  bool has(const ProductKey& key) const;
  // Of the same product with the nearest rows, fewer first; nothing if it was never chosen.
  std::optional<cublasLtMatmulAlgo_t> nearest(const ProductKey& key) const;

  int64_t size() const;
  std::string text() const;
  // The lines of this kind of GPU. Throws Error(kBadData) if a line is not what text() wrote.
  static ProductChoices parse(const std::string& text);

 private:
  std::map<std::string, std::map<int64_t, cublasLtMatmulAlgo_t>> by_product_;  // by rows
};

}  // namespace facet::cuda
