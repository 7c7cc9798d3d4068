// The shapes and options of the composed model: plain data, read from config.json (src/checkpoint)
// and from the command line (src/train).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/vision_family.h"
#include "nn/linear.h"
#include "nn/weight_sharing.h"
#include "ops/ops.h"

namespace facet {

// A vision transformer; names as in Hugging Face's CLIPVisionConfig and SiglipVisionConfig.
struct VisionConfig {
  VisionFamily family = VisionFamily::kClip;
  int64_t hidden_size = 0;        // C
  int64_t intermediate_size = 0;  // F
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t image_size = 0;  // R of the stored positions
  int64_t patch_size = 0;
  Activation hidden_act = Activation::kQuickGelu;
  float layer_norm_eps = 1e-5f;
  // Of a family with a pool (Qwen-VL).
  int64_t pool_queries = 0;  // a square: tokens of an image after it
  int64_t pool_width = 0;

  const VisionTraits& traits() const { return traits_of(family); }
  int64_t grid() const { return image_size / patch_size; }
  int64_t feature_width() const { return traits().pool ? pool_width : hidden_size; }
};

struct RopeScaling {
  enum class Type : uint8_t { kNone, kLinear, kDynamic, kLlama3 };
  Type type = Type::kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double original_max_position_embeddings = 8192;    // llama3

  bool operator==(const RopeScaling&) const = default;
};

// A decoder of LLaMA's kind; names as in Hugging Face's configurations. What the families differ in
// is a field whose default is LLaMA's.
struct LlamaConfig {
  int64_t hidden_size = 0;        // D
  int64_t intermediate_size = 0;  // F
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;  // H
  int64_t num_key_value_heads = 0;  // G
  int64_t head_dim = 0;    // E; hidden_size / num_attention_heads unless the file says otherwise
  int64_t vocab_size = 0;  // V, including added tokens once the tokenizer is known
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  // A row of a layer with a window sees only the last `sliding_window` positions, its own included;
  // 0: no layer has one.
  int64_t sliding_window = 0;
  std::vector<uint8_t> window_layers;  // by layer: whether it has the window; empty: all
  GroupPlace group = {};               // of the ranks that hold the weights together

  bool has_window(int64_t layer) const {
    return sliding_window > 0 &&
           (window_layers.empty() || window_layers[static_cast<size_t>(layer)] != 0);
  }
};

// That the ranks of the group can hold the decoder together, several of them the same key/value
// head where there are fewer of these; Error(kConfig) with the numbers.
void check_shared(const LlamaConfig& config);

enum class ProjectionKind : uint8_t { kBaseline, kVit, kPerceiver, kMlp };

constexpr int64_t kPerceiverQueries = 256;  // S of the perceiver, for any image size

struct VlmConfig {
  VisionConfig vision;
  LlamaConfig lm;
  ProjectionKind projection = ProjectionKind::kBaseline;
  int64_t image_size = 0;  // R of the pixels; differs from vision.image_size with --image_size
  int64_t vision_feature_layer = -1;  // -1: last block's output, -2: the one before (LLaVA), ...
  bool drop_class_token = false;
  bool mmca = false;               // --enable_mmca_attention
  bool compat_visualchat = false;  // --compat visualchat
  bool recompute = false;          // --gradient_checkpointing
  // The outputs of the decoder's norms and of its activation are written again by the kernels of
  // backward, and not kept: a quarter less of them, at hardly any time.
  bool rebuild = true;
  bool vision_image_by_image = false;          // a frozen encoder's product has one image's rows
  LoraConfig lang_lora;                        // inside lang_decoder
  LoraConfig vis_lora;                         // inside vis_encoder
  int64_t max_labelled_rows_per_chunk = 1024;  // rows that head and loss process at a time

  // The last block's output goes through post_layernorm before it is the feature.
  bool norms_feature() const { return vision.traits().post_norm && vision_feature_layer == -1; }
  // Tokens per image in the vision features; the perceiver never sees the class token.
  int64_t vision_tokens() const;
  int64_t image_tokens() const;  // S
};

}  // namespace facet
