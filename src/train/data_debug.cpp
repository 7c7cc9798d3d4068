#include "train/data_debug.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/micro_batch.h"
#include "base/printable.h"
#include "data/bad_samples.h"
#include "data/image.h"
#include "io/file.h"

namespace facet {

namespace {

std::string rounds_text(const RawSample& sample) {
  std::string text;
  for (size_t r = 0; r < sample.rounds.size(); ++r) {
    const RawRound& round = sample.rounds[r];
    text += fmt::format("round {}\n", r + 1);
    for (const ImageRef& image : round.images)
      text += fmt::format("  image {}\n", printable(image.name()));
    text += fmt::format("  question {}\n  answer {}\n", printable(round.question),
                        printable(round.answer));
  }
  return text;
}

std::string tokens_text(const PreparedSample& sample, const Tokenizer& tokenizer) {
  std::vector<int32_t> labelled;
  for (const int32_t label : sample.labels)
    if (label != kIgnoredLabel) labelled.push_back(label);
  return fmt::format("{} tokens, {} of them labelled, {} images\ntokens {}\nlabels {}\nlearns {}\n",
                     sample.token_ids.size(), labelled.size(), sample.num_images,
                     fmt::join(sample.token_ids, " "), fmt::join(sample.labels, " "),
                     printable(tokenizer.decode(labelled)));
}

// The images of the rounds that were kept.
void write_images(const std::string& prefix, const DebugSources& sources, const RawSample& sample,
                  int64_t count) {
  int64_t written = 0;
  for (const RawRound& round : sample.rounds)
    for (const ImageRef& source : round.images) {
      if (written == count) return;
      const RgbImage image = load_image(source, sources.max_image_pixels);
      write_file(fmt::format("{}-image-{}.png", prefix, ++written),
                 encode_png(sources.preprocessor.resize_and_crop(image)));
    }
}

void write_sample(const std::string& prefix, const DebugSources& sources, int64_t sample) {
  const int32_t dataset = sources.table.dataset_of(Split::kTraining, sample);
  std::string text =
      fmt::format("data set {}, records {}\n", sources.table.dataset(dataset).name(),
                  fmt::join(sources.table.records_of(Split::kTraining, sample), " "));
  try {
    const RawSample raw = sources.table.read(Split::kTraining, sample, 0);
    text += rounds_text(raw);
    PreparedSample prepared;
    build_checked(sources.builder, raw, sources.max_images, prepared);
    text += tokens_text(prepared, sources.tokenizer);
    write_images(prefix, sources, raw, prepared.num_images);
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    text += fmt::format("bad sample: {}\n", printable(error.what()));
  }
  write_file(prefix + ".txt", text);
}

}  // namespace

void write_debug_samples(const std::string& directory, const DebugSources& sources, int64_t count) {
  make_directories(directory);
  const int64_t samples = sources.table.num_samples(Split::kTraining);
  const std::vector<int64_t> order = sources.table.epoch_order(0);
  for (int64_t k = 0; k < std::min(count, samples); ++k)
    write_sample(fmt::format("{}/sample-{}", directory, k + 1), sources,
                 order[static_cast<size_t>(k)]);
}

}  // namespace facet
