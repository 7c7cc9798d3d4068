// The families of vision encoders, a row each: in what they differ. All the rest is one encoder
// (vision_encoder.h).
#pragma once

#include <cstdint>
#include <span>

#include "ops/ops.h"

namespace facet {

enum class VisionFamily : uint8_t { kClip, kSiglip };

struct VisionTraits {
  VisionFamily family;
  const char* name;

  // In files: model_type of config.json, of a whole model with a vision_config and of the encoder
  // alone; the class of Transformers that reads an export.
  const char* whole_type;
  const char* own_type;
  const char* architecture;
  // The key of config.json that says whether the pooling head is there, nullptr for a family
  // without one. The head makes no feature; it is neither read nor exported.
  const char* head_key;
  // Of keys that config.json leaves out.
  int64_t default_patch_size;
  Activation default_activation;
  float default_eps;

  // In the arithmetic.
  bool class_token;  // a learned token before those of the patches
  bool patch_bias;   // the patches' projection has a bias
  bool pre_norm;     // a norm (pre_layrnorm) before the first block
  bool post_norm;    // the last block's output becomes the feature through a norm (post_layernorm)
  bool margin;       // pixels right of and below the last whole patch are left out; else an error
};

std::span<const VisionTraits> all_vision_traits();
const VisionTraits& traits_of(VisionFamily family);

}  // namespace facet
