#include "data/sample_builder.h"

#include <algorithm>

#include "base/check.h"
#include "base/micro_batch.h"

namespace facet {

namespace {

void check_raw(const RawSample& sample, int64_t max_images) {
  CHECK(!sample.rounds.empty(), ExitCode::kBadData, "no question and answer");
  const size_t empty = first_empty_answer(sample);
  CHECK(empty == sample.rounds.size(), ExitCode::kBadData, "the answer of round {} is empty",
        empty + 1);
  CHECK(sample.num_images() <= max_images, ExitCode::kBadData,
        "{} images are more than --max_num_image_per_sample {}", sample.num_images(), max_images);
}

void check_built(const PreparedSample& built, int32_t image_token_id) {
  const auto places = std::count(built.token_ids.begin(), built.token_ids.end(), image_token_id);
  CHECK(places == built.num_images, ExitCode::kBadData, "{} image placeholders for {} images",
        places, built.num_images);
  // A sample's first token has no predecessor and is never predicted.
  CHECK(std::any_of(built.labels.begin() + !built.labels.empty(), built.labels.end(),
                    [](int32_t label) { return label != kIgnoredLabel; }),
        ExitCode::kBadData, "no token to learn from");
}

}  // namespace

size_t first_empty_answer(const RawSample& sample) {
  const auto found =
      std::find_if(sample.rounds.begin(), sample.rounds.end(), [](const RawRound& round) {
        return round.answer.find_first_not_of(" \t\r\n") == std::string::npos;
      });
  return static_cast<size_t>(found - sample.rounds.begin());
}

void build_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                   PreparedSample& out) {
  check_raw(sample, max_images);
  builder.build(sample, out);
  check_built(out, builder.image_token_id());
}

void build_text_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                        PreparedSample& out) {
  check_raw(sample, max_images);
  builder.build_text(sample, out);
  check_built(out, builder.image_token_id());
}

}  // namespace facet
