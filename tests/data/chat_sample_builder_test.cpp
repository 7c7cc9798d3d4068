// From annotation files and image files to micro-batches, nothing faked.
#include "data/chat_sample_builder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "base/micro_batch.h"
#include "data/loader.h"
#include "data/probe.h"
#include "golden.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

using Datasets = std::vector<std::unique_ptr<Dataset>>;

constexpr int64_t kSize = 8;         // R
constexpr int64_t kImageTokens = 4;  // S

class ChatSampleBuilderTest : public testing::Test {
 protected:
  ChatSampleBuilderTest()
      : root_(fs::temp_directory_path() / ("facet_chat_test." + std::to_string(getpid()))) {
    fs::create_directories(root_ / "llava");
    fs::create_directories(root_ / "coco/train2017");
    const fs::path images = root_ / "coco/train2017", golden = fs::path(kGoldenDir) / "images";
    fs::copy(golden / "420.jpg", images / "1.jpg");
    fs::copy(golden / "444.jpg", images / "2.jpg");
    std::ofstream(images / "rubbish.jpg") << "\xff\xd8\xff\xe0 this is no picture";
    std::ofstream(images / "cut.jpg") << read(images / "1.jpg").substr(0, 300);
    std::ofstream(images / "empty.jpg");
  }
  ~ChatSampleBuilderTest() override { fs::remove_all(root_); }

  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // llava records of (image, answer); an empty image makes a text-only one.
  Datasets open(const std::vector<std::pair<std::string, std::string>>& records) const;
  PromptBuilder prompt(int64_t max_seq_len = 4096) const {
    return PromptBuilder(tokenizer_,
                         {PromptStyle::kCorrect, "System.\n\n", kImageTokens, max_seq_len});
  }
  ImageRef image(const std::string& file) const { return images_.at(file); }

  fs::path root_;
  ImageFiles images_{(root_ / "coco/train2017").string(), OutsideImages::kRefused};
  Tokenizer tokenizer_{kGoldenDir, PromptStyle::kCorrect};
  ImagePreprocessor preprocessor_{ImagePreprocessConfig{}, kSize};
};

Datasets ChatSampleBuilderTest::open(
    const std::vector<std::pair<std::string, std::string>>& records) const {
  std::string text;
  for (const auto& [file, answer] : records)
    text += (text.empty() ? "{" : ",{") +
            (file.empty() ? std::string() : "\"image\":\"" + file + "\",") +
            R"("conversations":[{"from":"human","value":"What?\n"},{"from":"gpt","value":")" +
            answer + "\"}]}";
  std::ofstream(root_ / "llava/detail_23k.json") << "[" + text + "]";
  std::ofstream(root_ / "llava/complex_reasoning_77k.json") << "[]";
  Datasets datasets;
  datasets.push_back(open_dataset("llava", {root_, {}}));
  return datasets;
}

// What is found is not decoded: here the features are of a file that could not be.
TEST_F(ChatSampleBuilderTest, ImagesWhoseFeaturesAreKeptAreNotDecoded) {
  constexpr int64_t kBytes = 3;
  FeatureCache cache(kBytes, 1 << 20);
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 1 << 20, &cache);
  cache.open(
      std::make_unique<RecordStore>(FeatureCache::make_directory(root_ / "features", ""), "here"));
  ImageFeatures looked_up;
  cache.look_up(image("rubbish.jpg"), read(root_ / "coco/train2017/rubbish.jpg"), looked_up);
  const std::vector<std::byte> kept(kBytes, std::byte{5});
  cache.computed(looked_up.keys[0], kept);

  const RawSample raw = {{{"What?", "A cat.", {image("1.jpg"), image("rubbish.jpg")}}}};
  PreparedSample sample;
  EXPECT_THROW(builder.build(raw, sample), Error);  // not shared yet
  cache.store()->refresh();
  builder.build(raw, sample);
  EXPECT_EQ(sample.num_images, 2);
  EXPECT_EQ(sample.features.is_given, (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(sample.features.values, kept);
  PreparedSample plain;
  ChatSampleBuilder(tokenizer_, prompt, preprocessor_, 1 << 20)
      .build({{{"What?", "A cat.", {image("1.jpg")}}}}, plain);
  EXPECT_EQ(sample.pixels, plain.pixels);
  EXPECT_TRUE(plain.features.keys.empty());
}

TEST_F(ChatSampleBuilderTest, TokensAndPixelsAreThoseOfPromptAndPreprocessor) {
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 1 << 20);
  const RawSample raw = {
      {{"What?", "A cat.", {image("1.jpg"), image("2.jpg")}}, {"Sure?", "Yes.", {}}}};
  PreparedSample sample;
  build_checked(builder, raw, 8, sample);
  const std::vector<Round> rounds = {{"What?", "A cat.", 2}, {"Sure?", "Yes.", 0}};
  const TokenizedSample expected = prompt.tokenize(rounds);
  EXPECT_EQ(sample.token_ids, expected.token_ids);
  EXPECT_EQ(sample.labels, expected.labels);
  ASSERT_EQ(sample.num_images, 2);
  std::vector<float> pixels(2 * 3 * kSize * kSize);
  preprocessor_(load_image(image("1.jpg"), 1 << 20), pixels.data());
  preprocessor_(load_image(image("2.jpg"), 1 << 20), pixels.data() + 3 * kSize * kSize);
  EXPECT_EQ(sample.pixels, pixels);
}

TEST_F(ChatSampleBuilderTest, ARoundThatDoesNotFitLeavesWithItsImages) {
  const RawSample raw = {
      {{"What?", "A cat.", {image("1.jpg")}}, {"And here?", "A dog.", {image("missing.jpg")}}}};
  const std::vector<Round> first = {{"What?", "A cat.", 1}};
  const TokenizedSample expected = prompt().tokenize(first);
  const PromptBuilder prompt =
      this->prompt(static_cast<int64_t>(expected.token_ids.size()) + kImageTokens - 1);
  PreparedSample sample;
  build_checked(ChatSampleBuilder(tokenizer_, prompt, preprocessor_, 1 << 20), raw, 8, sample);
  EXPECT_EQ(sample.token_ids, expected.token_ids);
  EXPECT_EQ(sample.num_images, 1);
  EXPECT_EQ(static_cast<int64_t>(sample.pixels.size()), 3 * kSize * kSize);
}

TEST_F(ChatSampleBuilderTest, BadFilesAreLeftOutCountedAndListed) {
  const Datasets datasets = open({{"1.jpg", "good"},
                                  {"missing.jpg", "a"},
                                  {"rubbish.jpg", "a"},
                                  {"cut.jpg", "a"},
                                  {"empty.jpg", "a"},
                                  {"2.jpg", " "},
                                  {"", "text only"},
                                  {"2.jpg", "<image>"}});
  const SampleTable table(datasets, {{}}, 1, 1);
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 1 << 20);
  LoaderOptions options;
  options.per_device_train_batch_size = 8;
  options.bad_samples = BadSamplePolicy::kSkip;
  options.bad_samples_path = BadSampleList::path_for(root_, 0);
  Loader loader(table, builder, options);
  const MicroBatch& batch = loader.fetch_step(0, 0)[0];
  EXPECT_EQ(loader.bad_samples_of_last_fetch()[0], 6);
  ASSERT_EQ(batch.num_samples(), 2);
  EXPECT_EQ(batch.num_images(), 1);
  EXPECT_EQ(static_cast<int64_t>(batch.pixels.size()), 3 * kSize * kSize);
  EXPECT_GT(batch.num_labelled(), 0);
  const std::string list = read(options.bad_samples_path);
  EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 6);
  for (const char* name : {"missing.jpg", "rubbish.jpg", "cut.jpg", "empty.jpg"})
    EXPECT_NE(list.find(name), std::string::npos) << list;
}

// The record with bytes that are no UTF-8 is lost, the file is not; nor is the list of bad samples
// broken by a file name with such bytes.
TEST_F(ChatSampleBuilderTest, ForeignBytesMakeOneBadSample) {
  const Datasets datasets = open({{"", "gr\xfc\xdf"}, {"1.jpg", "a cat"}, {"\xff.jpg", "a dog"}});
  const SampleTable table(datasets, {{}}, 1, 1);
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 1 << 20);
  LoaderOptions options;
  options.per_device_train_batch_size = 3;
  options.bad_samples = BadSamplePolicy::kSkip;
  options.bad_samples_path = BadSampleList::path_for(root_, 0);
  Loader loader(table, builder, options);
  EXPECT_EQ(loader.fetch_step(0, 0)[0].num_images(), 1);
  EXPECT_EQ(loader.bad_samples_of_last_fetch()[0], 2);
  const std::string list = read(options.bad_samples_path);
  EXPECT_NE(list.find("the answer is not valid UTF-8"), std::string::npos) << list;
  EXPECT_NE(list.find("\\u00ff.jpg"), std::string::npos) << list;
}

TEST_F(ChatSampleBuilderTest, AnImageAboveTheBoundIsBad) {
  const Datasets datasets = open({{"1.jpg", "a"}});
  const SampleTable table(datasets, {{}}, 1, 1);
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 10);
  Loader loader(table, builder, {});
  EXPECT_THROW(loader.fetch_step(0, 0), Error);
}

TEST_F(ChatSampleBuilderTest, ADataSetWithoutAnswersIsAnError) {
  const Datasets datasets = open({{"1.jpg", ""}, {"2.jpg", "  "}});
  const SampleTable table(datasets, {{}}, 1, 1);
  const PromptBuilder prompt = this->prompt();
  const ChatSampleBuilder builder(tokenizer_, prompt, preprocessor_, 1 << 20);
  try {
    probe_datasets(table, builder, 8, 8);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find("empty"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace facet
