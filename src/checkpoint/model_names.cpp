#include "checkpoint/model_names.h"

#include <string>
#include <string_view>

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

TensorDirectory without_wrapper(std::string_view wrapper, TensorDirectory tensors) {
  return std::move(tensors).renamed([wrapper](const std::string& name) {
    return name.starts_with(wrapper) ? name.substr(wrapper.size()) : name;
  });
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
  for (const std::string_view wrapper : kWrappers)
    if (tensors.find(joined(wrapper, own.landmark)) != nullptr)
      return without_wrapper(wrapper, std::move(tensors));
  if (tensors.find(own.landmark.substr(own.base.size())) == nullptr) return tensors;
  return std::move(tensors).renamed([&](const std::string& name) {
    return name.starts_with(kHead) ? name : joined(own.base, name);
  });
}

}  // namespace facet
