// In which of several ways matrix products are computed: by which of cuBLASLt's algorithms, and
// where a layer has LoRA, apart from it or with it. And the text in which that is kept: a line each
// of the GPU and cuBLASLt's version, the product, its rows and the choice, separated by tabs. The
// choice is the algorithm in hexadecimal digits, meaningful to the version that proposed it, or for
// LoRA "separate" or "fused".
//
// Rows are counted in steps of 128: packed batches have another number of them each time.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/product_plan.h"

namespace facet::cuda {

enum class LoraWay : uint8_t { kSeparate, kFused };

// What the faster way of a layer with LoRA depends on.
struct LoraKey {
  enum class Direction : uint8_t { kForward, kBackward };
  Direction direction;
  DType dtype;
  int64_t num_rows, inputs, outputs, rank;
  bool has_bias, has_residual;
  int64_t rotated_columns, head_width;  // 0: nothing is turned
  // Of each part; after the last of them 0.
  std::array<int64_t, kMostLoraParts> begins{}, widths{};
  auto operator<=>(const LoraKey&) const = default;

  int64_t rows() const { return num_rows; }
  std::string text_without_rows() const;
};
// y (N,O) or its gradient, x (N,I), and one to kMostLoraParts parts; bias and residual may be
// absent.
LoraKey lora_key(LoraKey::Direction direction, const Operand& y_NO, const Operand& x_NI,
                 const Operand& bias_O, const Operand& residual_NO,
                 std::span<const LoraPartOperands> parts, const RotationOperands& rotation);

// And what it depends on whether LoRA's first product is computed where its input is made, by
// SwiGLU.
struct LoraDownKey {
  DType dtype;
  int64_t num_rows, width, rank;
  auto operator<=>(const LoraDownKey&) const = default;

  int64_t rows() const { return num_rows; }
  std::string text_without_rows() const;
};

// What was chosen for products, by their rows. Key has rows() and text_without_rows().
template <typename Choice>
class ChoicesByRows {
 public:
  template <typename Key>
  void choose(const Key& key, const Choice& choice) {
    by_product_[key.text_without_rows()][bucket_of(key.rows())] = choice;
  }
  template <typename Key>
  bool has(const Key& key) const {
    const auto product = by_product_.find(key.text_without_rows());
    return product != by_product_.end() && product->second.contains(bucket_of(key.rows()));
  }
  // Of the same product with the nearest rows, fewer first; nothing if it was never chosen.
  template <typename Key>
  std::optional<Choice> nearest(const Key& key) const {
    const auto product = by_product_.find(key.text_without_rows());
    if (product == by_product_.end()) return std::nullopt;
    const auto& by_rows = product->second;
    const int64_t rows = bucket_of(key.rows());
    const auto above = by_rows.lower_bound(rows);
    if (above == by_rows.begin()) return above->second;
    const auto below = std::prev(above);
    const bool is_nearer = above == by_rows.end() || rows - below->first <= above->first - rows;
    return is_nearer ? below->second : above->second;
  }

  void put(const std::string& product, int64_t bucket, const Choice& choice) {
    by_product_[product][bucket] = choice;
  }
  // Calls body(product, bucket, choice) for each.
  template <typename Body>
  void for_each(const Body& body) const {
    for (const auto& [product, by_rows] : by_product_)
      for (const auto& [bucket, choice] : by_rows) body(product, bucket, choice);
  }

 private:
  static int64_t bucket_of(int64_t rows) {
    constexpr int64_t kStep = 128;
    return (rows + kStep - 1) / kStep * kStep;
  }
  std::map<std::string, std::map<int64_t, Choice>> by_product_;  // by rows
};

class ProductChoices {
 public:
  // "NVIDIA H200, cuBLASLt 130100": the GPU in use.
  static std::string kind();

  ChoicesByRows<cublasLtMatmulAlgo_t> algorithms;
  ChoicesByRows<LoraWay> lora;

  int64_t size() const;
  std::string text() const;
  // The lines of this kind of GPU. Throws Error(kBadData) if a line is not what text() wrote.
  static ProductChoices parse(const std::string& text);
};

}  // namespace facet::cuda
