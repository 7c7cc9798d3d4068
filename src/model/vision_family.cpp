#include "model/vision_family.h"

#include <algorithm>
#include <iterator>

namespace facet {
namespace {

constexpr VisionNames kTransformersNames = {
    .patches = "vision_model.embeddings.patch_embedding",
    .positions = "vision_model.embeddings.position_embedding.weight",
    .pre_norm = "vision_model.pre_layrnorm",
    .blocks = "vision_model.encoder.layers.",
    .post_norm = "vision_model.post_layernorm",
    .norm1 = "layer_norm1",
    .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
    .out = "self_attn.out_proj",
    .norm2 = "layer_norm2",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2"};

// As in Qwen-VL's visual.py, where they follow OpenCLIP's.
constexpr VisionNames kQwenVlNames = {.patches = "conv1",
                                      .positions = "positional_embedding",
                                      .pre_norm = "ln_pre",
                                      .blocks = "transformer.resblocks.",
                                      .post_norm = "ln_post",
                                      .norm1 = "ln_1",
                                      .qkv = {"attn.in_proj", nullptr, nullptr},
                                      .out = "attn.out_proj",
                                      .norm2 = "ln_2",
                                      .fc1 = "mlp.c_fc",
                                      .fc2 = "mlp.c_proj"};

constexpr VisionTraits kFamilies[] = {
    {.family = VisionFamily::kClip,
     .name = "CLIP",
     .whole_type = "clip",
     .own_type = "clip_vision_model",
     .architecture = "CLIPVisionModel",
     .settings_key = "vision_config",
     .head_key = nullptr,
     .names = &kTransformersNames,
     .default_patch_size = 32,
     .default_activation = Activation::kQuickGelu,
     .default_eps = 1e-5f,
     .class_token = true,
     .patch_bias = false,
     .pre_norm = true,
     .post_norm = false,
     .pool = false,
     .qkv_by_head = false,
     .margin = false},
    {.family = VisionFamily::kSiglip,
     .name = "SigLIP",
     .whole_type = "siglip",
     .own_type = "siglip_vision_model",
     .architecture = "SiglipVisionModel",
     .settings_key = "vision_config",
     .head_key = "vision_use_head",
     .names = &kTransformersNames,
     .default_patch_size = 16,
     .default_activation = Activation::kGeluTanh,
     .default_eps = 1e-6f,
     .class_token = false,
     .patch_bias = true,
     .pre_norm = false,
     .post_norm = true,
     .pool = false,
     .qkv_by_head = false,
     .margin = true},
    {.family = VisionFamily::kQwenVl,
     .name = "Qwen-VL",
     .whole_type = "qwen",
     .own_type = "qwen_vl_visual",
     .architecture = "VisionTransformer",
     .settings_key = "visual",
     .head_key = nullptr,
     .names = &kQwenVlNames,
     .default_patch_size = 14,
     .default_activation = Activation::kGelu,
     .default_eps = 1e-6f,
     .class_token = false,
     .patch_bias = false,
     .pre_norm = true,
     .post_norm = true,
     .pool = true,
     .qkv_by_head = true,
     .margin = false},
};

}  // namespace

std::span<const VisionTraits> all_vision_traits() { return kFamilies; }

const VisionTraits& traits_of(VisionFamily family) {
  return *std::find_if(std::begin(kFamilies), std::end(kFamilies),
                       [&](const VisionTraits& traits) { return traits.family == family; });
}

}  // namespace facet
