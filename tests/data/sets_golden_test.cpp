// The data sets against samples that the original's own classes and collator made of the files in
// tests/golden/data/sets (scripts/make_golden_sets.py). Its draws are others than ours: each of its
// samples must be one that we draw too, and then have the same ids, labels and pixels.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/check.h"
#include "data/chat_sample_builder.h"
#include "data/prompt_texts.h"
#include "golden.h"
#include "io/json.h"

namespace facet {
namespace {

const std::string kSets = kGoldenDir + "/sets";
constexpr uint64_t kDraws = 20000;

struct Style {
  explicit Style(PromptStyle which, int64_t side, int64_t max_images)
      : style(which), max_images(max_images), preprocessor(ImagePreprocessConfig{}, side) {}

  const Dataset& dataset(const std::string& name) {
    std::unique_ptr<Dataset>& opened = datasets[name];
    if (opened != nullptr) return *opened;
    DatasetSources sources;
    sources.data_path = kSets;
    sources.why_phrases = load_why_phrases("");
    sources.max_images = max_images;
    sources.style = style;
    opened = open_dataset(name, sources);
    return *opened;
  }

  PromptStyle style;
  int64_t max_images;
  Tokenizer tokenizer{kGoldenDir, style};
  PromptBuilder prompt{tokenizer, {style, load_system_text(""), 4, 4096}};
  ImagePreprocessor preprocessor;
  ChatSampleBuilder builder{tokenizer, prompt, preprocessor, kDefaultMaxImagePixels};
  std::map<std::string, std::unique_ptr<Dataset>> datasets;
};

std::vector<int32_t> ids_of(const JsonValue& array) {
  std::vector<int32_t> ids;
  for (const JsonValue id : array) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

bool same_rounds(const RawSample& sample, const JsonValue& rounds) {
  if (static_cast<int64_t>(sample.rounds.size()) != rounds.size()) return false;
  for (int64_t r = 0; r < rounds.size(); ++r) {
    const RawRound& round = sample.rounds[static_cast<size_t>(r)];
    if (round.question != rounds.at(r).at("question").as_string() ||
        round.answer != rounds.at(r).at("answer").as_string() ||
        static_cast<int64_t>(round.images.size()) != rounds.at(r).at("images").as_int())
      return false;
  }
  return true;
}

RawSample draw_these_rounds(const Dataset& dataset, int64_t record, const JsonValue& rounds) {
  for (uint64_t i = 0; i < kDraws; ++i) {
    RandomStream draws(1, "test", i);
    if (RawSample sample = dataset.read(record, draws); same_rounds(sample, rounds)) return sample;
  }
  ADD_FAILURE() << "these rounds are never drawn";
  return {};
}

std::vector<std::string> image_names(const RawSample& sample) {
  std::vector<std::string> names;
  for (const RawRound& round : sample.rounds)
    for (const ImageRef& image : round.images) names.push_back(image.name());
  return names;
}

TEST(SetsGolden, SamplesAreThoseOfTheOriginal) {
  const JsonDocument golden = JsonDocument::read(kSets + "/sets.json");
  const int64_t side = golden.root().at("side").as_int();
  const int64_t max_images = golden.root().at("max_images").as_int();
  Style correct(PromptStyle::kCorrect, side, max_images);
  Style compat(PromptStyle::kVisualChat, side, max_images);
  std::map<std::string, std::set<const Style*>> compared;
  for (const JsonValue set : golden.root().at("sets"))
    EXPECT_EQ(compat.dataset(std::string(set.at("name").as_string())).num_records(),
              set.at("records").as_int())
        << set.at("name").as_string();
  for (const JsonValue record : golden.root().at("samples")) {
    SCOPED_TRACE(record.where());
    const std::string name(record.at("set").as_string());
    Style& style = record.at("style").as_string() == "visualchat" ? compat : correct;
    const RawSample raw =
        draw_these_rounds(style.dataset(name), record.at("record").as_int(), record.at("rounds"));
    if (raw.rounds.empty()) continue;
    std::vector<std::string> images;
    for (const JsonValue image : record.at("images"))
      images.push_back(kSets + "/" + std::string(image.as_string()));
    EXPECT_EQ(image_names(raw), images);
    PreparedSample sample;
    build_checked(style.builder, raw, max_images, sample);
    EXPECT_EQ(sample.token_ids, ids_of(record.at("ids")));
    EXPECT_EQ(sample.labels, ids_of(record.at("labels")));
    EXPECT_EQ(crc_of(sample.pixels), record.at("pixels").as_int());
    compared[name].insert(&style);
  }
  EXPECT_EQ(compared.size(), 9u);
  for (const auto& [name, styles] : compared) EXPECT_EQ(styles.size(), 2u) << name;
}

}  // namespace
}  // namespace facet
