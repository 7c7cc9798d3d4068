// The implementation of VisionLanguageModel, shared by training (vlm.cpp) and decoding
// (batch_decoding.cpp).
#pragma once

#include <memory>
#include <vector>

#include "model/llama.h"
#include "model/projection.h"
#include "model/rope.h"
#include "model/splice.h"
#include "model/vision_encoder.h"
#include "model/vlm.h"

namespace facet {

struct VisionLanguageModel::Impl {
  Impl(const VlmConfig& config, ParamTable& table);

  // Host vectors of the current micro-batch, used by every function below and reused, so that a
  // step allocates nothing once it has seen its largest shapes.
  struct OnHost {
    SplicedBatch spliced;
    AttentionPlan plan;
    AttentionPlan window_plan;    // without samples where the window hides nothing
    std::vector<float> cos, sin;  // (N,E/2)
    // Of the rows that predict labels, where losses are computed: what the last block needs.
    AttentionPlan target_plan;
    std::vector<float> target_cos, target_sin;  // (R,E/2)
    RowLosses losses;                           // where the caller wants their sums
  };

  // Splices the batch, and fills the plan and the rotation of its rows.
  void lay_out(const MicroBatch& batch);
  // lay_out, and makes room for the losses. A batch without labels is laid out as an empty one.
  void start(Context& ctx, const MicroBatch& batch, RowLosses& losses);
  // Lays out an empty batch: everything runs on zero rows.
  void lay_out_nothing();
  // The plan of samples without windows.
  void make_whole_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin,
                       const std::vector<TokenKind>& kinds,
                       const std::vector<int32_t>& positions) const;
  void make_plan(const std::vector<int32_t>& sample_begin, const std::vector<TokenKind>& kinds,
                 const std::vector<int32_t>& positions);

  const AttentionPlan& window_plan() const {
    return host.window_plan.samples.empty() ? host.plan : host.window_plan;
  }

  // A table of token rows (V,D) and its unit.
  struct TokenTable {
    int unit;
    const Param* rows;
  };
  TokenTable trained_table() const { return {embed_unit, lang_embed}; }
  TokenTable table_of_generated() const {
    if (!generated_as_original) return trained_table();
    return {decoder.own_tokens_unit(), &decoder.own_tokens()};
  }
  // Rows x (N,D) of the decoder from image tokens (I*S,D).
  Tensor embed(Context& ctx, TokenTable table, Tensor image_tokens, Tensor source);
  void splice_rows(Context& ctx, const Param& table, Tensor x, Tensor image_tokens,
                   Tensor source) const;
  DecoderRows rows(Context& ctx);
  // Lays out what the last block computes for the rows that predict labels alone.
  void lay_out_targets();
  LossTargets targets(Context& ctx);
  AskedRows asked_rows(Context& ctx, const LossTargets& targets);
  // Everything above the image tokens, forward and backward; dtokens (I*S,D) or none, row_loss (R).
  void train_decoder(Context& ctx, Tensor tokens, Tensor dtokens, Tensor row_loss,
                     float gradient_scale);
  void embed_backward(Context& ctx, Tensor dtokens, Tensor dx, Tensor source);
  void train_vision(Context& ctx, Tensor features, Tensor dtokens);
  // Hidden states (R,D) of the rows asked for, or of all; nothing is kept.
  Tensor hidden_states(Context& ctx, const MicroBatch& batch, const AskedRows& asked);
  void fetch(Context& ctx, Tensor row_loss, RowLosses& losses);

  // Whether the gradient of the image tokens, or of the decoder's input, is needed.
  bool tokens_need_gradient() const {
    return vision.needs_backward() || projection->needs_backward();
  }
  InputGradient decoder_input_gradient() const {
    return lang_embed->trained || tokens_need_gradient() ? InputGradient::kNeeded
                                                         : InputGradient::kNotNeeded;
  }

  VlmConfig config;
  const ParamTable& params;
  // Units are declared in the order of these members.
  VisionEncoder vision;
  std::unique_ptr<Projection> projection;
  int embed_unit;
  Param* lang_embed;  // (V,D); of a group this rank's columns
  LlamaDecoder decoder;
  RopeTable rope;
  FeatureSink* feature_sink = nullptr;
  bool generated_as_original = false;

  OnHost host;
};

// A host vector as an input of the micro-batch.
Tensor upload(Context& ctx, const std::vector<int32_t>& values);

}  // namespace facet
