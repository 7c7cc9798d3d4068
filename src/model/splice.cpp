#include "model/splice.h"

#include <algorithm>

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
    open(sample);
    int64_t places = 0;  // so far
    for (size_t t = begin; t < end; ++t) {
      const int32_t label = batch_.labels.empty() ? kIgnoredLabel : batch_.labels[t];
      if (t > begin && label != kIgnoredLabel) add_target(sample, label);
      if (batch_.token_ids[t] == batch_.image_token_id) {
        CHECK(label == kIgnoredLabel, ExitCode::kBadData, "sample {}: an image place has a label",
              number_of(batch_, sample));
        const int64_t image = config_.compat_visualchat ? images - 1 - places : places;
        add_image(first_image + image);
        ++places;
      } else {
        add_text(sample, batch_.token_ids[t]);
      }
    }
  }

 private:
  // Makes room for the sample's rows.
  void open(size_t sample) {
    const auto begin = batch_.token_ids.begin() + batch_.sample_begin[sample];
    const auto end = batch_.token_ids.begin() + batch_.sample_begin[sample + 1];
    const int64_t images = batch_.images_per_sample[sample];
    const int64_t places = std::count(begin, end, batch_.image_token_id);
    CHECK(places == images, ExitCode::kBadData, "sample {} has {} image places for {} images",
          number_of(batch_, sample), places, images);
    const int64_t text = end - begin - places;
    next_row_ = spliced_.rows();
    next_image_ = next_row_ + text;
    next_position_ = 0;
    const auto rows = static_cast<size_t>(next_row_ + text + images * config_.image_tokens());
    spliced_.source.resize(rows);
    spliced_.kinds.resize(rows);
    spliced_.positions.resize(rows);
    spliced_.sample_begin.push_back(static_cast<int32_t>(rows));
    spliced_.labelled.push_back(0);
  }
  // The row of the next position.
  void add_row(int64_t source, TokenKind kind) {
    const bool sorted_apart = config_.mmca && kind == TokenKind::kImage;
    row_ = sorted_apart ? next_image_++ : next_row_++;
    const auto row = static_cast<size_t>(row_);
    spliced_.source[row] = static_cast<int32_t>(source);
    spliced_.kinds[row] = kind;
    spliced_.positions[row] = next_position_++;
  }
  void check_id(size_t sample, int32_t id) const {
    CHECK(id >= 0 && id < config_.lm.vocab_size, ExitCode::kBadData,
          "sample {}: token id {} is outside the vocabulary of {}; the tokenizer does not belong "
          "to the model",
          number_of(batch_, sample), id, config_.lm.vocab_size);
  }
  void add_target(size_t sample, int32_t label) {
    check_id(sample, label);
    std::vector<int32_t>& rows = spliced_.target_rows;
    const auto row = static_cast<int32_t>(row_);
    // Where text follows an image its row may lie before one that predicts a label already.
    const auto later = std::upper_bound(rows.end() - spliced_.labelled.back(), rows.end(), row);
    spliced_.target_labels.insert(spliced_.target_labels.begin() + (later - rows.begin()), label);
    rows.insert(later, row);
    ++spliced_.labelled.back();
  }
  void add_text(size_t sample, int32_t id) {
    check_id(sample, id);
    add_row(id, TokenKind::kText);
  }
  void add_image(int64_t image) {
    const int64_t tokens = config_.image_tokens();
    for (int64_t row = image * tokens; row < (image + 1) * tokens; ++row)
      add_row(-1 - row, TokenKind::kImage);
  }

  SplicedBatch& spliced_;
  const MicroBatch& batch_;
  const VlmConfig& config_;
  int64_t next_row_ = 0, next_image_ = 0;  // rows; unsorted, all are taken from the first
  int32_t next_position_ = 0;
  int64_t row_ = 0;  // of the last position
};

}  // namespace

void SplicedBatch::clear() {
  sample_begin.assign(1, 0);
  source.clear();
  kinds.clear();
  positions.clear();
  target_rows.clear();
  target_labels.clear();
  labelled.clear();
}

void SplicedBatch::rows_by_position(std::vector<int32_t>& rows) const {
  rows.resize(positions.size());
  for (size_t b = 0; b + 1 < sample_begin.size(); ++b)
    for (int32_t row = sample_begin[b]; row < sample_begin[b + 1]; ++row)
      rows[static_cast<size_t>(sample_begin[b] + positions[static_cast<size_t>(row)])] = row;
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
