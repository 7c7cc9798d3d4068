// The composed model (docs/computes.md, "The model"): vision encoder -> projection -> splice into
// the text -> LLaMA -> loss on labelled rows. Plain single-process mathematics: it knows no rank
// and no file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/micro_batch.h"
#include "model/config.h"
#include "model/vision_encoder.h"
#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

// Per sample: the sum of the cross-entropy over labelled positions, and their number.
struct LossSums {
  std::vector<double> loss;       // (B)
  std::vector<int64_t> labelled;  // (B)

  double total_loss() const;
  int64_t total_labelled() const;
};

// The same on its way from a device: there after Backend::finish_copies(). It must stay where it is
// until then.
struct RowLosses {
  std::vector<float> loss;        // (R) of the labelled rows, sample after sample
  std::vector<int64_t> labelled;  // (B)

  // In the order of the rows, in double.
  void add_up(LossSums& sums) const;
};

class VisionLanguageModel {
 public:
  // Declares all parameters; trained are lang_embed, the projection and LoRA until somebody
  // chooses otherwise.
  VisionLanguageModel(const VlmConfig& config, ParamTable& table);
  ~VisionLanguageModel();

  const VlmConfig& config() const;

  // For the passes that follow. At rest, no image of a micro-batch may lack its features.
  void set_vision(VisionWork work);
  // From now on the sink, which outlives what is computed, is told the features of images that have
  // keys (VisionEncoder::see); nullptr: none is. Returns the one before it.
  FeatureSink* tell_features_to(FeatureSink* sink);

  // With --compat visualchat a token that has just been generated is embedded with the decoder's
  // own table from now on, as by the original, whose next prompt embeds it with lang_embed like any
  // other text. For a model that is not trained: passes of training do not visit that table's unit.
  void generate_as_original();

  // Forward and backward of one micro-batch. Gradients of sum(loss) * gradient_scale are
  // accumulated. A micro-batch without samples or labels contributes zero; the hooks are still
  // called. Waits for nothing.
  void forward_backward(Context& ctx, const MicroBatch& batch, float gradient_scale,
                        RowLosses& losses);
  // The same, and waits for the losses.
  void forward_backward(Context& ctx, const MicroBatch& batch, float gradient_scale,
                        LossSums& sums);
  // Forward only. Waits for the losses.
  void evaluate(Context& ctx, const MicroBatch& batch, LossSums& sums);
  // Forward only; logits (N,V) of every position of the spliced, packed sequence, into host memory.
  // For tests.
  void all_logits(Context& ctx, const MicroBatch& batch, std::vector<float>& logits);
  // Forward only; projected image tokens (I*S, D) and vision features (I*(1+P or P), C) into host
  // memory. For tests.
  void image_features(Context& ctx, const MicroBatch& batch, std::vector<float>& features,
                      std::vector<float>& projected);

  // Decoding of one conversation with a key/value cache. The cache lives in the arena, from
  // construction to destruction; decodings nest like arena scopes.
  class Decoding {
   public:
    Decoding(VisionLanguageModel& model, Context& ctx, int64_t max_tokens);
    ~Decoding();
    // Appends tokens with their images and returns the logits (V) of the last position. The
    // MicroBatch must have exactly one sample; labels are ignored.
    const std::vector<float>& append(const MicroBatch& piece);
    // Appends one generated token: one query row.
    const std::vector<float>& append_token(int32_t token);
    int64_t length() const;  // positions in the cache, including image tokens
    // Forgets all but the first `length` positions, those of whole pieces and tokens.
    void rewind(int64_t length);

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet
