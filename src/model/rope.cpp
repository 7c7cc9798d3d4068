#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace facet {
namespace {

// Long wavelengths are stretched by the factor, short ones are kept, those in between are blended
// by their number of rotations within the original length.
double llama3_frequency(double frequency, const RopeScaling& scaling) {
  const double turns =
      scaling.original_max_position_embeddings * frequency / (2 * std::numbers::pi);
  if (turns > scaling.high_freq_factor) return frequency;
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  const double kept =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - kept) * frequency / scaling.factor + kept * frequency;
}

void append_angles(std::vector<float>& cos, std::vector<float>& sin, int64_t position,
                   const std::vector<double>& frequencies) {
  for (const double frequency : frequencies) {
    const double angle = static_cast<double>(position) * frequency;
    cos.push_back(static_cast<float>(std::cos(angle)));
    sin.push_back(static_cast<float>(std::sin(angle)));
  }
}

}  // namespace

RopeTable::RopeTable(const LlamaConfig& config) : config_(config), frequencies_(frequencies(0)) {}

bool RopeTable::stretches(int64_t length) const {
  return config_.rope_scaling.type == RopeScaling::Type::kDynamic &&
         length > config_.max_position_embeddings;
}

std::vector<double> RopeTable::frequencies(int64_t length) const {
  const RopeScaling& scaling = config_.rope_scaling;
  const auto width = static_cast<double>(config_.head_dim);
  double base = config_.rope_theta;
  if (stretches(length)) {
    const double ratio =
        static_cast<double>(length) / static_cast<double>(config_.max_position_embeddings);
    base *= std::pow(scaling.factor * ratio - (scaling.factor - 1), width / (width - 2));
  }
  std::vector<double> result;
  for (int64_t pair = 0; pair < config_.head_dim / 2; ++pair) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(pair) / width);
    if (scaling.type == RopeScaling::Type::kLinear) frequency /= scaling.factor;
    if (scaling.type == RopeScaling::Type::kLlama3)
      frequency = llama3_frequency(frequency, scaling);
    result.push_back(frequency);
  }
  return result;
}

void RopeTable::append_rows(std::vector<float>& cos, std::vector<float>& sin,
                            std::span<const int32_t> positions, int64_t length) {
  if (stretches(length)) {
    const std::vector<double> stretched = frequencies(length);
    for (const int32_t position : positions) append_angles(cos, sin, position, stretched);
    return;
  }
  const int64_t pairs = config_.head_dim / 2;
  const auto known = [&] {
    return static_cast<int64_t>(cos_.size()) / std::max<int64_t>(pairs, 1);
  };
  for (const int64_t position : positions) {
    while (known() <= position) append_angles(cos_, sin_, known(), frequencies_);
    cos.insert(cos.end(), cos_.begin() + position * pairs, cos_.begin() + (position + 1) * pairs);
    sin.insert(sin.end(), sin_.begin() + position * pairs, sin_.begin() + (position + 1) * pairs);
  }
}

}  // namespace facet
