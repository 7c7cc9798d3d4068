// The composed model (docs/computes.md, "The model"): vision encoder -> projection -> splice into
// the text -> LLaMA -> loss on labelled rows. Plain mathematics: it knows no file, and of ranks
// only those that hold the decoder together with this one (nn/weight_sharing.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
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

  // Decoding of several sequences, each of its own length, in one forward. Keys and values lie in
  // pages in the arena, from construction to destruction (model/page_pool.h).
  class BatchDecoding {
   public:
    // kOn: sequences read the pages on which their first pieces agree in all tokens and images from
    // where one of them has been run. It is without effect where a row depends on more than the
    // rows before it: with dynamic rotary scaling up to the pages' number of rows, and with MMCA as
    // --compat visualchat has it.
    enum class Sharing : uint8_t { kOff, kOn };

    BatchDecoding(VisionLanguageModel& model, Context& ctx, int64_t pages, Sharing sharing);
    ~BatchDecoding();
    static constexpr int64_t kPageRows = 32;
    // How many pages a sequence of up to max_tokens positions takes.
    static int64_t pages_for(int64_t max_tokens) {
      return (max_tokens + kPageRows - 1) / kPageRows;
    }

    // A new sequence, by the lowest number that is not in use. The open sequences' pages together
    // must not exceed those of the decoding.
    int open(int64_t max_tokens);
    void close(int sequence);

    // Appends tokens with their images (append() of Decoding), or one generated token; run() does
    // the work. `images`: names by which equal images have equal names; empty, or none given: it is
    // an image like no other. A sequence that becomes too long is Error(kBadData).
    void append(int sequence, const MicroBatch& piece, std::span<const std::string> images = {});
    void append_token(int sequence, int32_t token);
    // Runs everything that has been appended in one forward. A sequence whose rows must all be run
    // again, because the rotary angles have changed with its length, has one by itself.
    void run();
    // Of a sequence's last position, (V), after run(). It stays in its place until close().
    const std::vector<float>& logits(int sequence) const;
    int64_t length(int sequence) const;  // positions, including image tokens
    // Forgets all but the first `length` positions, those of whole pieces and tokens, after run();
    // with sharing, everything or not the first piece.
    void rewind(int sequence, int64_t length);
    // Rows of all sequences so far that were not computed, because others had them.
    int64_t shared_rows() const;

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

  // Decoding of one conversation with a key/value cache. The cache lives in the arena, from
  // construction to destruction; decodings nest like arena scopes.
  class Decoding {
   public:
    Decoding(VisionLanguageModel& model, Context& ctx, int64_t max_tokens);
    // Appends tokens with their images and returns the logits (V) of the last position. The
    // MicroBatch must have exactly one sample; labels are ignored.
    const std::vector<float>& append(const MicroBatch& piece);
    // Appends one generated token: one query row.
    const std::vector<float>& append_token(int32_t token);
    int64_t length() const;  // positions in the cache, including image tokens
    // Forgets all but the first `length` positions, those of whole pieces and tokens.
    void rewind(int64_t length);

   private:
    BatchDecoding batch_;
    int sequence_;
  };

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet
