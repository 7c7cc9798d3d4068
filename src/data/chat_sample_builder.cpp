#include "data/chat_sample_builder.h"

#include "base/check.h"

namespace facet {

// Fills all but the pixels.
void ChatSampleBuilder::tokenize(const RawSample& sample, PreparedSample& out) const {
  std::vector<Round> rounds;
  for (const RawRound& round : sample.rounds)
    rounds.push_back({round.question, round.answer, static_cast<int64_t>(round.images.size())});
  TokenizedSample tokenized = prompt_.tokenize(rounds, sample.image_numbers, sample.system_text);
  out.token_ids = std::move(tokenized.token_ids);
  out.labels = std::move(tokenized.labels);
  out.num_images = static_cast<int32_t>(tokenized.num_images);
  out.num_rounds = tokenized.num_rounds;
}

void ChatSampleBuilder::build_text(const RawSample& sample, PreparedSample& out) const {
  tokenize(sample, out);
  out.pixels.clear();
  out.features.clear();
}

void ChatSampleBuilder::build(const RawSample& sample, PreparedSample& out) const {
  tokenize(sample, out);
  out.pixels.clear();
  out.features.clear();
  int64_t images = 0;
  for (int64_t i = 0; i < out.num_rounds; ++i)
    for (const ImageRef& image : sample.rounds[static_cast<size_t>(i)].images) {
      add_image(image, out);
      ++images;
    }
  ASSERT(images == out.num_images, "the kept rounds show {} images, not {}", images,
         out.num_images);
}

void ChatSampleBuilder::add_image(const ImageRef& image, PreparedSample& out) const {
  const std::string file = image.source->read(image.key);
  if (cache_ != nullptr && cache_->look_up(image, file, out.features)) return;
  const size_t before = out.pixels.size();
  const int64_t size = preprocessor_.image_size();
  out.pixels.resize(before + static_cast<size_t>(3 * size * size));
  ImagePixels pixels(preprocessor_, out.pixels.data() + before);
  decode_image(image, file, max_image_pixels_, pixels);
}

}  // namespace facet
