#include "checkpoint/model_names.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace facet {

namespace {

struct ModelNames {
  std::string_view landmark;  // a tensor that every such model has
  std::string_view base;      // what names lack in the files of the class without a head
};
constexpr ModelNames kDecoderNames{"model.embed_tokens.weight", "model."};
constexpr ModelNames kVisionNames{"vision_model.embeddings.patch_embedding.weight",
                                  "vision_model."};

// Of a PeftModel whose LoRA is merged, DistributedDataParallel and DeepSpeed, torch.compile().
constexpr std::string_view kWrappers[] = {"base_model.model.", "module.", "_orig_mod."};

constexpr std::string_view kHead = "lm_head.";
constexpr std::string_view kPoolQuery = "attn_pool.query";  // of Qwen-VL's encoder

std::string joined(std::string_view first, std::string_view second) {
  return std::string(first).append(second);
}

// What is left of a name behind the wrappers with which it begins.
std::string_view without_wrappers(std::string_view name) {
  for (;;) {
    const auto* const wrapper = std::ranges::find_if(
        kWrappers, [&](std::string_view prefix) { return name.starts_with(prefix); });
    if (wrapper == std::end(kWrappers)) return name;
    name.remove_prefix(wrapper->size());
  }
}

// The wrappers, of which one may stand in another, around the model whose landmark has this name in
// its files; nothing if it isn't there.
std::optional<std::string> wrappers_around(const TensorDirectory& tensors,
                                           std::string_view landmark) {
  for (const std::string& name : tensors.names())
    if (name.ends_with(landmark) && without_wrappers(name) == landmark)
      return name.substr(0, name.size() - landmark.size());
  return std::nullopt;
}

// Beside those of the encoder are the tensors of its language model.
TensorDirectory without_qwen_prefix(const std::string& query, TensorDirectory tensors) {
  const std::string prefix = query.substr(0, query.size() - kPoolQuery.size());
  if (prefix.empty()) return tensors;
  return std::move(tensors).renamed([&](const std::string& name) {
    return name.starts_with(prefix) ? name.substr(prefix.size()) : std::string();
  });
}

}  // namespace

TensorDirectory with_model_names(TensorDirectory tensors, LlavaPart part) {
  if (part == LlavaPart::kVision)
    for (const std::string& name : tensors.names())
      if (name.ends_with(kPoolQuery)) return without_qwen_prefix(name, std::move(tensors));
  const ModelNames& own = part == LlavaPart::kVision ? kVisionNames : kDecoderNames;
  if (tensors.find(own.landmark) != nullptr) return tensors;
  std::optional<std::string> wrappers = wrappers_around(tensors, own.landmark);
  const bool lacks_base = !wrappers;
  if (lacks_base) wrappers = wrappers_around(tensors, own.landmark.substr(own.base.size()));
  if (!wrappers) return tensors;
  return std::move(tensors).renamed([&](const std::string& full) {
    const std::string name = full.starts_with(*wrappers) ? full.substr(wrappers->size()) : full;
    return !lacks_base || name.starts_with(kHead) ? name : joined(own.base, name);
  });
}

}  // namespace facet
