// The options of group "Model" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

// Files may have moved when a run is resumed: fingerprints and hashes tell whether they are the
// same.
void add_model_options(std::vector<OptionField>& t) {
  const auto model = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kModel, "tegc", on_resume, help);
  };
  t.push_back(
      field("lm_model_name_or_path", &O::lm_model_name_or_path, Group::kModel, "tegcx", kMayChange,
            "directory of the language model: config.json, tokenizer.model or tokenizer.json, "
            "safetensors or pytorch_model.bin; or its name on the Hugging Face hub, NAME or "
            "NAME@REVISION, if it is in the local cache. A whole LLaVA 1.5 brings the vision "
            "encoder and the projection")
          .required("tegc")
          .directory());
  t.push_back(
      field("vision_model_name_or_path", &O::vision_model_name_or_path, Group::kModel, "tegcx",
            kMayChange,
            "directory of the vision encoder: config.json, preprocessor_config.json, "
            "safetensors or pytorch_model.bin of a CLIP, SigLIP or Qwen-VL model, "
            "whole or its encoder alone; or its name on the hub. By default that of a whole LLaVA")
          .required("tegc")
          .directory());
  t.push_back(model("vis_proj", &O::vis_proj, kMustMatch,
                    "projection from vision features to the width of the language model")
                  .one_of({"baseline", "vit", "perceiver", "mlp2x_gelu"}));
  t.push_back(
      model("projection", &O::projection, kMayChange,
            "exported file with projection and lang_embed to start from, by default the one next "
            "to the language model's directory, if there is one; or a whole model's "
            "pytorch_model.bin of DeepSpeed-VisualChat, or LLaVA's mm_projector.bin")
          .file());
  t.push_back(
      model("adapter", &O::adapter, kMayChange,
            "directory of an adapter to start from: an export of that kind, or one that PEFT "
            "wrote, or its name on the hub; LoRA's rank, alpha and modules are those of the "
            "adapter, and a "
            "projection.safetensors in it is read in place of the one by the language model")
          .directory());
  t.push_back(model("enable_mmca_attention", &O::enable_mmca_attention, kMustMatch,
                    "multi-modal causal attention: text attends to images and to text separately"));
  t.push_back(model("max_seq_len", &O::max_seq_len, kMustMatch,
                    "longest sample in tokens, image tokens included; longer ones lose whole "
                    "rounds from the end")
                  .in(2, 1 << 24)
                  .usually_given());
  t.push_back(model("image_size", &O::image_size, kMustMatch,
                    "side of an image in pixels; 0: as in the vision model's files")
                  .in(0, 1 << 14));
  t.push_back(model("image_aspect_ratio", &O::image_aspect_ratio, kMustMatch,
                    "pad: make each image a square first, with bars of the processor's mean "
                    "colour; auto: only if preprocessor_config.json says so")
                  .one_of({"auto", "pad"}));
  t.push_back(model("vision_feature_layer", &O::vision_feature_layer, kMustMatch,
                    "vision block whose output is the image feature: -1 the last, -2 the one "
                    "before it")
                  .in(-1000, -1));
  t.push_back(model("drop_class_token", &O::drop_class_token, kMustMatch,
                    "leave CLIP's class token out of the image tokens"));
  t.push_back(field("vision_image_by_image", &O::vision_image_by_image, Group::kModel, "t",
                    kMayChange,
                    "with --device cuda: compute each image's features for itself, so that their "
                    "last bits do not depend on what else is in the micro-batch; --device cpu and "
                    "--feature_cache do so anyway, a vision encoder that is trained never does"));
  t.push_back(model("compat", &O::compat, kMustMatch,
                    "visualchat: the arithmetic of DeepSpeed-VisualChat where this program "
                    "differs on purpose (attention, image order, loss average, decay, prompts)")
                  .one_of({"off", "visualchat"}));
}

}  // namespace facet
