// Decoding of one conversation: a batch of one sequence.
#include "model/vlm.h"

namespace facet {

VisionLanguageModel::Decoding::Decoding(VisionLanguageModel& model, Context& ctx,
                                        int64_t max_tokens)
    : batch_(model, ctx, BatchDecoding::pages_for(max_tokens), BatchDecoding::Sharing::kOff),
      sequence_(batch_.open(max_tokens)) {}

int64_t VisionLanguageModel::Decoding::length() const { return batch_.length(sequence_); }

void VisionLanguageModel::Decoding::rewind(int64_t length) { batch_.rewind(sequence_, length); }

const std::vector<float>& VisionLanguageModel::Decoding::append(const MicroBatch& piece) {
  batch_.append(sequence_, piece);
  batch_.run();
  return batch_.logits(sequence_);
}

const std::vector<float>& VisionLanguageModel::Decoding::append_token(int32_t token) {
  batch_.append_token(sequence_, token);
  batch_.run();
  return batch_.logits(sequence_);
}

}  // namespace facet
