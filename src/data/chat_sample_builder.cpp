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
}

void ChatSampleBuilder::build(const RawSample& sample, PreparedSample& out) const {
  tokenize(sample, out);
  const int64_t size = preprocessor_.image_size();
  const int64_t image_floats = 3 * size * size;
  out.pixels.resize(static_cast<size_t>(out.num_images * image_floats));
  float* pixels_3RR = out.pixels.data();
  for (int64_t i = 0; i < out.num_rounds; ++i)
    for (const ImageRef& image : sample.rounds[static_cast<size_t>(i)].images) {
      ClipPixels pixels(preprocessor_, pixels_3RR);
      load_image(image, max_image_pixels_, pixels);
      pixels_3RR += image_floats;
    }
  ASSERT(pixels_3RR == out.pixels.data() + out.pixels.size(), "the kept rounds show {} images",
         out.num_images);
}

}  // namespace facet
