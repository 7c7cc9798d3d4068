// Numbers from an integer hash of (name, index): the same here and in scripts/golden, so that no
// weight and no pixel is stored in a golden file.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"

namespace facet::golden {

// splitmix64 of the name's FNV-1a hash plus the index.
inline uint64_t hash_at(uint64_t name_hash, int64_t index) {
  uint64_t z = name_hash + static_cast<uint64_t>(index) + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// fp32 values in center + scale * [-1, 1).
inline std::vector<float> uniform(const std::string& name, int64_t count, double center = 0,
                                  double scale = 1) {
  const uint64_t seed = hash_name(name);
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const double u = static_cast<double>(hash_at(seed, i) >> 40) / 8388608.0 - 1.0;
    values[static_cast<size_t>(i)] = static_cast<float>(center + scale * u);
  }
  return values;
}

// Values that keep activations near 1: norms near 1, products by their fan-in.
inline std::vector<float> weight(const std::string& name, const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  const auto contains = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (shape.size() == 1)
    return name.ends_with(".weight") ? uniform(name, count, 1.0, 0.2)
                                     : uniform(name, count, 0.0, 0.1);
  if (contains("lora_"))
    return uniform(name, count, 0, std::pow(3.0 / static_cast<double>(shape[0]), 0.5));
  if (shape.size() == 2 && (contains("embed") || name.ends_with(".query")))
    return uniform(name, count, 0, 0.5);
  return uniform(name, count, 0, std::pow(3.0 / static_cast<double>(count / shape[0]), 0.5));
}

constexpr int kProjections = 6, kSamples = 6;

// A gradient in 13 numbers: its norm, six products with hashed +-1 vectors, six elements.
inline std::vector<double> digest(const std::string& name, const std::vector<float>& gradient) {
  std::vector<double> result(1);
  for (const double g : gradient) result[0] += g * g;
  result[0] = std::sqrt(result[0]);
  for (int k = 0; k < kProjections; ++k) {
    const uint64_t seed = hash_name("sign " + std::to_string(k) + " " + name);
    double sum = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      const bool negative = hash_at(seed, static_cast<int64_t>(i)) >> 63 != 0;
      sum += negative ? -static_cast<double>(gradient[i]) : static_cast<double>(gradient[i]);
    }
    result.push_back(sum);
  }
  const uint64_t seed = hash_name("sample " + name);
  for (int k = 0; k < kSamples; ++k) result.push_back(gradient[hash_at(seed, k) % gradient.size()]);
  return result;
}

}  // namespace facet::golden
