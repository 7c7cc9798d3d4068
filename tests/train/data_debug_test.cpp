#include "train/data_debug.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "data/chat_sample_builder.h"
#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

constexpr int64_t kMaxPixels = 1 << 24;

// One record: two rounds, an image in the second; or an empty answer.
class TwoRounds : public Dataset {
 public:
  explicit TwoRounds(std::string answer) : Dataset("two_rounds"), answer_(std::move(answer)) {}
  int64_t num_records() const override { return 1; }
  uint64_t fingerprint() const override { return 1; }
  RawSample read(int64_t, RandomStream&) const override {
    return {{{"How many?", answer_, {}}, {"And here?", "one", {images_.at("420.jpg")}}}};
  }

 private:
  ImageFiles images_{"tests/golden/data/images", OutsideImages::kRefused};
  std::string answer_;
};

class DataDebugTest : public testing::Test {
 protected:
  std::string written(const std::string& answer) {
    std::vector<std::unique_ptr<Dataset>> datasets;
    datasets.push_back(std::make_unique<TwoRounds>(answer));
    const SampleTable table(datasets, {{}}, 1, 1);
    write_debug_samples(directory_ / "debug",
                        {table, builder_, tokenizer_, preprocessor_, 8, kMaxPixels}, 10);
    return read_file(directory_ / "debug/sample-1.txt", 1 << 20);
  }

  TemporaryDirectory directory_;
  Tokenizer tokenizer_{"tests/golden/data", PromptStyle::kCorrect};
  PromptBuilder prompt_{tokenizer_, {PromptStyle::kCorrect, "", 4, 4096}};
  ImagePreprocessor preprocessor_{ImagePreprocessConfig{}, 8};
  ChatSampleBuilder builder_{tokenizer_, prompt_, preprocessor_, kMaxPixels};
};

TEST_F(DataDebugTest, ShowsRoundsTokensAndPixels) {
  const std::string text = written("two");
  for (const char* part : {"data set two_rounds, records 0\n", "question How many?", "answer two",
                           "image tests/golden/data/images/420.jpg", "labels -100", "1 images"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  const RgbImage image = load_image(directory_ / "debug/sample-1-image-1.png", kMaxPixels);
  const RgbImage seen =
      preprocessor_.resize_and_crop(load_image("tests/golden/data/images/420.jpg", kMaxPixels));
  EXPECT_EQ(image.width, 8);
  EXPECT_EQ(image.pixels, seen.pixels);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "debug/sample-1-image-2.png"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "debug/sample-2.txt"));
}

TEST_F(DataDebugTest, SaysWhatMakesASampleBad) {
  EXPECT_NE(written("").find("bad sample: the answer of round 1 is empty"), std::string::npos);
}

}  // namespace
}  // namespace facet
