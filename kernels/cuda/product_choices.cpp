#include "kernels/cuda/product_choices.h"

#include <charconv>
#include <cstring>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "device/cuda/stream.h"

namespace facet::cuda {
namespace {

int64_t bucket_of(const ProductKey& key) {
  constexpr int64_t kStep = 128;
  return (key.rows() + kStep - 1) / kStep * kStep;
}

std::string hexadecimal(const cublasLtMatmulAlgo_t& algorithm) {
  std::string digits;
  for (size_t i = 0; i < sizeof algorithm; ++i)
    digits += fmt::format("{:02x}", reinterpret_cast<const unsigned char*>(&algorithm)[i]);
  return digits;
}

template <typename T>
bool read_number(std::string_view text, T& number, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool read_algorithm(std::string_view digits, cublasLtMatmulAlgo_t& algorithm) {
  if (digits.size() != 2 * sizeof algorithm) return false;
  for (size_t i = 0; i < sizeof algorithm; ++i) {
    unsigned char byte = 0;
    if (!read_number(digits.substr(2 * i, 2), byte, 16)) return false;
    std::memcpy(reinterpret_cast<unsigned char*>(&algorithm) + i, &byte, 1);
  }
  return true;
}

}  // namespace

std::string ProductChoices::kind() {
  int gpu = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&gpu), "the GPU in use is not known");
  check_cuda(cudaGetDeviceProperties(&properties, gpu), "the GPU says nothing about itself");
  return fmt::format("{}, cuBLASLt {}", properties.name, cublasLtGetVersion());
}

void ProductChoices::choose(const ProductKey& key, const cublasLtMatmulAlgo_t& algorithm) {
  by_product_[key.text_without_rows()][bucket_of(key)] = algorithm;
}

bool ProductChoices::has(const ProductKey& key) const {
  const auto product = by_product_.find(key.text_without_rows());
  return product != by_product_.end() && product->second.contains(bucket_of(key));
}

std::optional<cublasLtMatmulAlgo_t> ProductChoices::nearest(const ProductKey& key) const {
  const auto product = by_product_.find(key.text_without_rows());
  if (product == by_product_.end()) return std::nullopt;
  const auto& by_rows = product->second;
  const int64_t rows = bucket_of(key);
  const auto above = by_rows.lower_bound(rows);
  if (above == by_rows.begin()) return above->second;
  const auto below = std::prev(above);
  const bool is_nearer = above == by_rows.end() || rows - below->first <= above->first - rows;
  return is_nearer ? below->second : above->second;
}

int64_t ProductChoices::size() const {
  int64_t size = 0;
  for (const auto& [product, by_rows] : by_product_) size += std::ssize(by_rows);
  return size;
}

std::string ProductChoices::text() const {
  const std::string of_kind = kind();
  std::string text;
  for (const auto& [product, by_rows] : by_product_)
    for (const auto& [rows, algorithm] : by_rows)
      text += fmt::format("{}\t{}\t{}\t{}\n", of_kind, product, rows, hexadecimal(algorithm));
  return text;
}

ProductChoices ProductChoices::parse(const std::string& text) {
  const std::string of_kind = kind();
  ProductChoices choices;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
    if (!fields.empty() && fields[0] != of_kind) continue;
    int64_t rows = 0;
    cublasLtMatmulAlgo_t algorithm;
    CHECK(fields.size() == 4 && read_number(fields[2], rows, 10) &&
              read_algorithm(fields[3], algorithm),
          ExitCode::kBadData, "a choice of cuBLASLt's algorithms cannot be read: '{}'", line);
    choices.by_product_[fields[1]][rows] = algorithm;
  }
  return choices;
}

}  // namespace facet::cuda
