#include "model/splice.h"

#include "base/check.h"

namespace facet {
namespace {

// A sample's number in messages: its index in the split if known, else in the micro-batch.
int64_t number_of(const MicroBatch& batch, size_t sample) {
  return sample < batch.sample_ids.size() ? batch.sample_ids[sample] : static_cast<int64_t>(sample);
}

void check_pixels(const MicroBatch& batch, const VlmConfig& config) {
  const int64_t images = batch.num_images();
  if (images == 0) return;
  CHECK(batch.image_size == config.image_size, ExitCode::kBadData,
        "the micro-batch has images of {} pixels a side, the model takes {}", batch.image_size,
        config.image_size);
  const int64_t without_features = images - batch.features.num_given();
  const int64_t pixels = without_features * 3 * config.image_size * config.image_size;
  CHECK(static_cast<int64_t>(batch.pixels.size()) == pixels, ExitCode::kBadData,
        "the micro-batch has {} pixel values, {} images need {}", batch.pixels.size(),
        without_features, pixels);
}

// Writes the rows of one sample.
class SampleSplicer {
 public:
  SampleSplicer(SplicedBatch& spliced, const MicroBatch& batch, const VlmConfig& config)
      : spliced_(spliced), batch_(batch), config_(config) {}

  void add(size_t sample, int64_t first_image) {
    const auto begin = static_cast<size_t>(batch_.sample_begin[sample]);
    const auto end = static_cast<size_t>(batch_.sample_begin[sample + 1]);
    const int64_t images = batch_.images_per_sample[sample];
    int64_t places = 0;
    spliced_.labelled.push_back(0);
    for (size_t t = begin; t < end; ++t) {
      const int32_t label = batch_.labels.empty() ? kIgnoredLabel : batch_.labels[t];
      if (t > begin && label != kIgnoredLabel) add_target(sample, label);
      if (batch_.token_ids[t] == batch_.image_token_id) {
        CHECK(label == kIgnoredLabel, ExitCode::kBadData, "sample {}: an image place has a label",
              number_of(batch_, sample));
        const int64_t image = config_.compat_visualchat ? images - 1 - places : places;
        if (places < images) add_image(first_image + image);
        ++places;
      } else {
        add_text(sample, batch_.token_ids[t]);
      }
    }
    CHECK(places == images, ExitCode::kBadData, "sample {} has {} image places for {} images",
          number_of(batch_, sample), places, images);
    spliced_.sample_begin.push_back(static_cast<int32_t>(spliced_.rows()));
  }

 private:
  void check_id(size_t sample, int32_t id) const {
    CHECK(id >= 0 && id < config_.lm.vocab_size, ExitCode::kBadData,
          "sample {}: token id {} is outside the vocabulary of {}; the tokenizer does not belong "
          "to the model",
          number_of(batch_, sample), id, config_.lm.vocab_size);
  }
  void add_target(size_t sample, int32_t label) {
    check_id(sample, label);
    spliced_.target_rows.push_back(static_cast<int32_t>(spliced_.rows() - 1));
    spliced_.target_labels.push_back(label);
    ++spliced_.labelled.back();
  }
  void add_text(size_t sample, int32_t id) {
    check_id(sample, id);
    spliced_.source.push_back(id);
    spliced_.kinds.push_back(TokenKind::kText);
  }
  void add_image(int64_t image) {
    const int64_t tokens = config_.image_tokens();
    for (int64_t row = image * tokens; row < (image + 1) * tokens; ++row) {
      spliced_.source.push_back(static_cast<int32_t>(-1 - row));
      spliced_.kinds.push_back(TokenKind::kImage);
    }
  }

  SplicedBatch& spliced_;
  const MicroBatch& batch_;
  const VlmConfig& config_;
};

}  // namespace

void SplicedBatch::clear() {
  sample_begin.assign(1, 0);
  source.clear();
  kinds.clear();
  target_rows.clear();
  target_labels.clear();
  labelled.clear();
}

void splice(SplicedBatch& spliced, const MicroBatch& batch, const VlmConfig& config) {
  spliced.clear();
  check_pixels(batch, config);
  CHECK(batch.labels.empty() || batch.labels.size() == batch.token_ids.size(), ExitCode::kBadData,
        "the micro-batch has {} labels for {} tokens", batch.labels.size(), batch.token_ids.size());
  CHECK(static_cast<int64_t>(batch.images_per_sample.size()) == batch.num_samples(),
        ExitCode::kBadData, "the micro-batch counts the images of {} samples and has {}",
        batch.images_per_sample.size(), batch.num_samples());
  SampleSplicer splicer(spliced, batch, config);
  int64_t first_image = 0;
  for (size_t sample = 0; sample + 1 < batch.sample_begin.size(); ++sample) {
    splicer.add(sample, first_image);
    first_image += batch.images_per_sample[sample];
  }
}

}  // namespace facet
