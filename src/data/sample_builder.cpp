#include "data/sample_builder.h"

#include <algorithm>

#include "base/check.h"
#include "base/micro_batch.h"

namespace facet {

void ChatSampleBuilder::build(const RawSample& sample, PreparedSample& out) const {
  std::vector<Round> rounds;
  for (const RawRound& round : sample.rounds)
    rounds.push_back({round.question, round.answer, static_cast<int64_t>(round.images.size())});
  TokenizedSample tokenized = prompt_.tokenize(rounds);
  out.token_ids = std::move(tokenized.token_ids);
  out.labels = std::move(tokenized.labels);
  out.num_images = static_cast<int32_t>(tokenized.num_images);
  const int64_t size = preprocessor_.image_size();
  const int64_t image_floats = 3 * size * size;
  out.pixels.resize(static_cast<size_t>(tokenized.num_images * image_floats));
  float* pixels_3RR = out.pixels.data();
  for (int64_t i = 0; i < tokenized.num_rounds; ++i)
    for (const std::string& path : sample.rounds[static_cast<size_t>(i)].images) {
      preprocessor_(load_image(path, max_image_pixels_), pixels_3RR);
      pixels_3RR += image_floats;
    }
  ASSERT(pixels_3RR == out.pixels.data() + out.pixels.size(), "the kept rounds show {} images",
         out.num_images);
}

void build_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                   PreparedSample& out) {
  CHECK(!sample.rounds.empty(), ExitCode::kBadData, "no question and answer");
  for (size_t i = 0; i < sample.rounds.size(); ++i)
    CHECK(sample.rounds[i].answer.find_first_not_of(" \t\r\n") != std::string::npos,
          ExitCode::kBadData, "the answer of round {} is empty", i + 1);
  CHECK(sample.num_images() <= max_images, ExitCode::kBadData,
        "{} images are more than --max_num_image_per_sample {}", sample.num_images(), max_images);
  builder.build(sample, out);
  const auto places =
      std::count(out.token_ids.begin(), out.token_ids.end(), builder.image_token_id());
  CHECK(places == out.num_images, ExitCode::kBadData, "{} image places for {} images", places,
        out.num_images);
  // A sample's first token has no predecessor and is never predicted.
  CHECK(std::any_of(out.labels.begin() + !out.labels.empty(), out.labels.end(),
                    [](int32_t label) { return label != kIgnoredLabel; }),
        ExitCode::kBadData, "no token to learn from");
}

}  // namespace facet
