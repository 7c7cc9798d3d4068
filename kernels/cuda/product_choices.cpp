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

constexpr const char* kSeparate = "separate";
constexpr const char* kFused = "fused";
const char* name_of(LoraWay way) { return way == LoraWay::kFused ? kFused : kSeparate; }

}  // namespace

LoraKey lora_key(LoraKey::Direction direction, const Operand& y_NO, const Operand& x_NI,
                 const Operand& bias_O, const Operand& residual_NO,
                 std::span<const LoraPartOperands> parts, const RotationOperands& rotation) {
  LoraKey key{.direction = direction,
              .dtype = y_NO.dtype,
              .num_rows = y_NO.rows,
              .inputs = x_NI.cols,
              .outputs = y_NO.cols,
              .rank = parts.front().right_Ir.cols,
              .has_bias = bias_O.data != nullptr,
              .has_residual = residual_NO.data != nullptr,
              .rotated_columns = rotation.columns(),
              .head_width = rotation.head_width()};
  for (size_t p = 0; p < parts.size(); ++p) {
    key.begins[p] = parts[p].begin;
    key.widths[p] = parts[p].left_rO.cols;
  }
  return key;
}

std::string LoraKey::text_without_rows() const {
  std::string text = fmt::format("LoRA {} {} {} to {}, rank {}",
                                 direction == Direction::kForward ? "forward" : "backward",
                                 facet::name_of(dtype), inputs, outputs, rank);
  if (has_bias) text += ", bias";
  if (has_residual) text += ", residual";
  if (rotated_columns > 0)
    text += fmt::format(", heads of {} turned in {}", head_width, rotated_columns);
  for (size_t p = 0; p < widths.size() && widths[p] > 0; ++p)
    text += fmt::format(", {} from {}", widths[p], begins[p]);
  return text;
}

std::string LoraDownKey::text_without_rows() const {
  return fmt::format("LoRA in SwiGLU {} {}, rank {}", facet::name_of(dtype), width, rank);
}

std::string ProductChoices::kind() {
  int gpu = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&gpu), "the GPU in use is not known");
  check_cuda(cudaGetDeviceProperties(&properties, gpu), "the GPU says nothing about itself");
  return fmt::format("{}, cuBLASLt {}", properties.name, cublasLtGetVersion());
}

int64_t ProductChoices::size() const {
  int64_t size = 0;
  const auto count = [&](const auto&...) { ++size; };
  algorithms.for_each(count);
  lora.for_each(count);
  return size;
}

std::string ProductChoices::text() const {
  const std::string of_kind = kind();
  std::string text;
  const auto add = [&](const std::string& product, int64_t rows, const std::string& choice) {
    text += fmt::format("{}\t{}\t{}\t{}\n", of_kind, product, rows, choice);
  };
  algorithms.for_each([&](const std::string& product, int64_t rows, const auto& algorithm) {
    add(product, rows, hexadecimal(algorithm));
  });
  lora.for_each([&](const std::string& product, int64_t rows, LoraWay way) {
    add(product, rows, name_of(way));
  });
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
    const bool has_rows = fields.size() == 4 && read_number(fields[2], rows, 10);
    if (has_rows && (fields[3] == kSeparate || fields[3] == kFused)) {
      choices.lora.put(fields[1], rows, fields[3] == kFused ? LoraWay::kFused : LoraWay::kSeparate);
      continue;
    }
    CHECK(has_rows && read_algorithm(fields[3], algorithm), ExitCode::kBadData,
          "a choice of how products are computed cannot be read: '{}'", line);
    choices.algorithms.put(fields[1], rows, algorithm);
  }
  return choices;
}

}  // namespace facet::cuda
