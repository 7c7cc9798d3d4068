// Rotary position embedding (Su et al., 2021): the angles, computed on the host. Layers only apply
// them (ops.h, rope_forward).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace facet {

class RopeTable {
 public:
  explicit RopeTable(const LlamaConfig& config);

  // Appends cos and sin, (positions, E/2) each, of positions in a sequence of `length` tokens.
  void append_rows(std::vector<float>& cos, std::vector<float>& sin,
                   std::span<const int32_t> positions, int64_t length);

  // With dynamic scaling the angles of all positions change with the length beyond
  // max_position_embeddings, so that previously rotated keys are stale.
  bool stretches(int64_t length) const;

  // (E/2) angle per position of each pair of channels, in a sequence of `length` tokens.
  std::vector<double> frequencies(int64_t length) const;

 private:
  LlamaConfig config_;
  std::vector<double> frequencies_;  // (E/2) without dynamic scaling
  std::vector<float> cos_, sin_;     // (positions seen so far, E/2)
};

}  // namespace facet
