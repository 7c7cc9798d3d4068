#include "model/vision_family.h"

#include <algorithm>
#include <iterator>

namespace facet {
namespace {

constexpr VisionTraits kFamilies[] = {
    {.family = VisionFamily::kClip,
     .name = "CLIP",
     .whole_type = "clip",
     .own_type = "clip_vision_model",
     .architecture = "CLIPVisionModel",
     .head_key = nullptr,
     .default_patch_size = 32,
     .default_activation = Activation::kQuickGelu,
     .default_eps = 1e-5f,
     .class_token = true,
     .patch_bias = false,
     .pre_norm = true,
     .post_norm = false,
     .margin = false},
    {.family = VisionFamily::kSiglip,
     .name = "SigLIP",
     .whole_type = "siglip",
     .own_type = "siglip_vision_model",
     .architecture = "SiglipVisionModel",
     .head_key = "vision_use_head",
     .default_patch_size = 16,
     .default_activation = Activation::kGeluTanh,
     .default_eps = 1e-6f,
     .class_token = false,
     .patch_bias = true,
     .pre_norm = false,
     .post_norm = true,
     .margin = true},
};

}  // namespace

std::span<const VisionTraits> all_vision_traits() { return kFamilies; }

const VisionTraits& traits_of(VisionFamily family) {
  return *std::find_if(std::begin(kFamilies), std::end(kFamilies),
                       [&](const VisionTraits& traits) { return traits.family == family; });
}

}  // namespace facet
