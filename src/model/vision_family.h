// The families of vision encoders, a row each: in what they differ. All the rest is one encoder
// (vision_encoder.h).
#pragma once

#include <cstdint>
#include <span>

#include "ops/ops.h"

namespace facet {

enum class VisionFamily : uint8_t { kClip, kSiglip, kQwenVl };

// Paths in a model's files.
struct VisionNames {
  const char* patches;    // of the patches' projection
  const char* positions;  // of the positions' table itself
  const char* pre_norm;
  const char* blocks;  // the block's number follows
  const char* post_norm;
  // Below the block's.
  const char* norm1;
  const char* qkv[3];  // the first alone for a family that has all in one (`qkv_by_head`)
  const char* out;
  const char* norm2;
  const char* fc1;
  const char* fc2;
};

struct VisionTraits {
  VisionFamily family;
  const char* name;

  // In files: model_type of config.json, of a whole model with a vision_config and of the encoder
  // alone; the class that reads an export, of Transformers or of the family's own code.
  const char* whole_type;
  const char* own_type;
  const char* architecture;
  // The key of config.json under which a whole model has the encoder's settings.
  const char* settings_key;
  // The key of config.json that says whether the pooling head is there, nullptr for a family
  // without one. The head makes no feature; it is neither read nor exported.
  const char* head_key;
  const VisionNames* names;
  // Of keys that config.json leaves out.
  int64_t default_patch_size;
  Activation default_activation;
  float default_eps;

  // In the arithmetic.
  bool class_token;  // a learned token before those of the patches
  bool patch_bias;   // the patches' projection has a bias
  bool pre_norm;     // a norm (pre_layrnorm) before the first block
  bool post_norm;    // the last block's output becomes the feature through a norm (post_layernorm)
  bool pool;         // before that norm learned queries read the patches (attention_pool.h)
  bool qkv_by_head;  // one linear makes q, k and v of the first head, then of the second, ...
  bool margin;       // pixels right of and below the last whole patch are left out; else an error
};

std::span<const VisionTraits> all_vision_traits();
const VisionTraits& traits_of(VisionFamily family);

}  // namespace facet
