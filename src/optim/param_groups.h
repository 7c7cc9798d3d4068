// The four optimizer groups by parameter name (docs/computes.md, "Optimizer"): decay or not, first
// or second learning rate. With LoRA+ (Hayou et al., 2024) the second matrices of LoRA are apart,
// in groups of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/param_table.h"

namespace facet {

enum class NoDecayRule : uint8_t {
  kBiasAndNorms,  // names with `bias`, and every normalisation weight
  kVisualChat,  // the original's: names with `bias` or `LayerNorm.weight`, so normalisation weights
                // decay
};

struct GroupOptions {
  double learning_rate = 0;
  double learning_rate_pretraining_components =
      0;  // of names with `embed`; 0: the same as learning_rate

  double lora_plus_ratio = 1;  // of the rate of LoRA's second matrices to that of their group
  double weight_decay = 0;
  NoDecayRule rule = NoDecayRule::kBiasAndNorms;
};

struct ParamGroup {
  // "decay", "no_decay", "embed_decay", "embed_no_decay"; with "_lora_b" behind if apart.
  std::string name;
  std::vector<Param*> params;
  int64_t elements = 0;
  double weight_decay = 0;
  double learning_rate = 0;
};

// All trained parameters, each in exactly one group, in order of declaration; without empty groups.
std::vector<ParamGroup> make_param_groups(ParamTable& table, const GroupOptions& options);

}  // namespace facet
