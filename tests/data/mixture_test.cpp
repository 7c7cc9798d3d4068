// All 13 published sets, own JSON and tar shards in one run: what a step holds is a function of
// seed, epoch and place, on any number of ranks and wherever a run begins.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <thread>

#include "data/chat_sample_builder.h"
#include "data/data_config.h"
#include "data/loader.h"
#include "data/prompt_texts.h"
#include "data/tiny/annotations.h"
#include "data/tiny/other_sets.h"
#include "golden.h"
#include "io/file.h"
#include "io/input_file.h"
#include "rank_threads.h"
#include "tests/io/tar_text.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

constexpr int64_t kSamplesOfStep = 12;
constexpr int64_t kRows = 400;  // --tokens_per_micro_batch

std::string conversation(int number, const std::string& image) {
  return fmt::format(R"({{{}"conversations":[{{"from":"human","value":"Number {}?\n<image>"}},)"
                     R"({{"from":"gpt","value":"Yes, {}."}}]}})",
                     image.empty() ? "" : fmt::format(R"("image":"{}",)", image), number, number);
}

// One --data_path with all of them, three samples a set, drawn and written once.
class Files {
 public:
  Files() {
    tiny::write_data(directory_ / "data", 24, 5);
    tiny::write_other_sets(directory_ / "data", 3, 5);
    std::string lines, members, config = "[";
    for (int i = 0; i < 4; ++i) {
      const std::string image = fmt::format("data/coco/train2017/{:012}.jpg", i);
      lines += conversation(i, image) + "\n";
      members += tar_member(fmt::format("{}.jpg", i), read_file(directory_ / image, 1 << 20)) +
                 (i % 2 == 0 ? tar_member(fmt::format("{}.json", i), conversation(i, ""))
                             : tar_member(fmt::format("{}.txt", i), "a drawn thing"));
    }
    directory_.put("own.jsonl", lines);
    directory_.put("own-0.tar", members + tar_end());
    for (const std::string& name : dataset_names())
      config += fmt::format(R"({{"type":"{}","samples":3}},)", name);
    directory_.put("mixture.json",
                   config +
                       R"({"type":"json","paths":"own.jsonl","samples":3},)"
                       R"({"type":"tar","name":"shards","paths":"own-{0..0}.tar","samples":3}])");
  }

  std::vector<DatasetChoice> choices() const {
    return read_data_config(directory_ / "mixture.json");
  }
  DatasetSources sources() const {
    DatasetSources sources{directory_ / "data", load_caption_questions("")};
    sources.why_phrases = load_why_phrases("");
    return sources;
  }

 private:
  TemporaryDirectory directory_;
};

const Files& files() {
  static const Files written;
  return written;
}

// A sample as a step holds it.
struct Held {
  int64_t id = 0;
  int32_t dataset = 0;
  std::vector<int32_t> token_ids, labels;
  std::vector<float> pixels;

  auto operator<=>(const Held&) const = default;
};
using Step = std::vector<Held>;

void append_samples(const MicroBatch& batch, Step& to) {
  const auto floats = static_cast<int64_t>(3) * batch.image_size * batch.image_size;
  int64_t image = 0;
  for (size_t b = 0; b < batch.sample_ids.size(); ++b) {
    const auto part = [&](const auto& all, int64_t begin, int64_t end) {
      return std::decay_t<decltype(all)>(all.begin() + begin, all.begin() + end);
    };
    const int32_t begin = batch.sample_begin[b], end = batch.sample_begin[b + 1];
    const int64_t first_image = image;
    image += batch.images_per_sample[b];
    to.push_back({batch.sample_ids[b], batch.dataset_of_sample[b],
                  part(batch.token_ids, begin, end), part(batch.labels, begin, end),
                  part(batch.pixels, first_image * floats, image * floats)});
  }
}

class Mixture : public testing::Test {
 protected:
  Mixture() {
    for (const DatasetChoice& choice : files().choices())
      datasets_.push_back(open_dataset(choice, files().sources()));
  }

  // Weights rise from set to set, so that samples of the last ones occur again in an epoch.
  SampleTable table(bool by_weight, uint64_t seed = 7) const {
    std::vector<DatasetRequest> requests;
    for (const DatasetChoice& choice : files().choices())
      requests.push_back(
          {choice.samples, 1, by_weight ? static_cast<double>(requests.size() + 8) : 0});
    return {datasets_, requests, 1, seed};
  }
  LoaderOptions options(int64_t rank, int64_t ranks, bool by_tokens, RankThreads& threads) const {
    LoaderOptions o;
    o.rank = rank;
    o.ranks = ranks;
    o.per_device_train_batch_size = kSamplesOfStep / ranks;
    o.num_workers = 1;
    if (!by_tokens) return o;
    o.tokens_per_micro_batch = kRows;
    o.work = &work_;
    o.exchange = threads.exchange_of(rank);
    return o;
  }

  // [step of two epochs] the samples in the order of micro-batches, and in each of ranks. With
  // `anew` every step is the first of a loader of its own, as after a restart.
  std::vector<Step> steps(const SampleTable& table, int64_t ranks, bool by_tokens,
                          bool anew = false) const {
    RankThreads exchange(ranks);
    std::vector<std::vector<std::vector<MicroBatch>>> fetched(static_cast<size_t>(ranks));
    std::vector<std::jthread> threads;
    for (int64_t rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] {
        const LoaderOptions o = options(rank, ranks, by_tokens, exchange);
        auto loader = std::make_unique<Loader>(table, builder_, o);
        for (int64_t i = 0; i < 2 * loader->steps_per_epoch(); ++i) {
          if (anew) loader = std::make_unique<Loader>(table, builder_, o);
          const int64_t of_epoch = loader->steps_per_epoch();
          loader->agree_on_step(i / of_epoch, i % of_epoch);
          const auto batches = loader->fetch_step(i / of_epoch, i % of_epoch);
          fetched[static_cast<size_t>(rank)].emplace_back(batches.begin(), batches.end());
        }
      });
    threads.clear();
    std::vector<Step> steps(fetched[0].size());
    for (size_t s = 0; s < steps.size(); ++s)
      for (size_t m = 0; m < fetched[0][s].size(); ++m)
        for (const auto& of_rank : fetched) append_samples(of_rank[s].at(m), steps[s]);
    return steps;
  }
  static std::vector<Step> sorted(std::vector<Step> steps) {
    for (Step& step : steps) std::sort(step.begin(), step.end());
    return steps;
  }

  std::vector<std::unique_ptr<Dataset>> datasets_;
  Tokenizer tokenizer_{kGoldenDir, PromptStyle::kCorrect};
  PromptBuilder prompt_{tokenizer_, {PromptStyle::kCorrect, "System.\n\n", 4, 4096}};
  ImagePreprocessor preprocessor_{ImagePreprocessConfig{}, 8};
  ChatSampleBuilder builder_{tokenizer_, prompt_, preprocessor_, 1 << 20};
  WorkModel work_{100, 50, 20, 1, 4};
};

TEST_F(Mixture, HasSamplesOfEveryKindInEachEpoch) {
  ASSERT_EQ(datasets_.size(), dataset_names().size() + 2);
  for (const bool by_weight : {false, true}) {
    std::set<int32_t> seen;
    const std::vector<Step> all = steps(table(by_weight), 1, false);
    for (size_t s = 0; s < all.size() / 2; ++s)
      for (const Held& sample : all[s]) seen.insert(sample.dataset);
    EXPECT_EQ(seen.size(), datasets_.size());
  }
}

TEST_F(Mixture, AnyNumberOfRanksHasTheSameSamplesInTheSameOrder) {
  for (const bool by_weight : {false, true}) {
    const SampleTable samples = table(by_weight);
    const std::vector<Step> one = steps(samples, 1, false);
    for (const int64_t ranks : {2, 3, 4}) EXPECT_EQ(steps(samples, ranks, false), one) << ranks;
    EXPECT_NE(steps(table(by_weight, 8), 1, false), one) << "another seed";
    // By tokens a step has the same samples, each as it is, in micro-batches that are dealt.
    for (const int64_t ranks : {1, 2, 3, 4})
      EXPECT_EQ(sorted(steps(samples, ranks, true)), sorted(one)) << ranks << " by tokens";
  }
}

TEST_F(Mixture, ARunThatBeginsAtAnyStepHasWhatOneThatComesThereHas) {
  for (const bool by_weight : {false, true})
    for (const bool by_tokens : {false, true}) {
      const SampleTable samples = table(by_weight);
      EXPECT_EQ(steps(samples, 3, by_tokens, true), steps(samples, 3, by_tokens))
          << by_weight << by_tokens;
    }
}

TEST_F(Mixture, EverySetTellsWhichFilesItStandsOn) {
  int64_t indexed = 0;  // four files of base64 images and a shard
  for (const auto& dataset : datasets_) {
    const std::vector<SourceFile> files = dataset->files();
    EXPECT_FALSE(files.empty()) << dataset->name();
    for (const SourceFile& file : files) {
      EXPECT_EQ(file.bytes, static_cast<int64_t>(std::filesystem::file_size(file.path)));
      EXPECT_EQ(file.modified, InputFile(file.path).modified());
      EXPECT_NE(file.hash, 0U) << file.path;
      indexed += file.hashed == SourceFile::Hashed::kIndex;
    }
    EXPECT_TRUE(
        dataset->file_of(0).empty() ||
        std::any_of(files.begin(), files.end(),
                    [&](const SourceFile& file) { return file.path == dataset->file_of(0); }))
        << dataset->name();
  }
  EXPECT_EQ(indexed, 5);
}

}  // namespace
}  // namespace facet
