#include "model/splice.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace facet {
namespace {

constexpr int32_t kImage = 9;
constexpr int32_t kNo = kIgnoredLabel;

VlmConfig tiny_config() {
  VlmConfig config;
  config.vision.patch_size = 1;
  config.image_size = 1;  // S = 2 with the class token
  config.lm.vocab_size = 10;
  return config;
}

// Sample 0: text, image, text, image, text; sample 1: text.
MicroBatch two_samples() {
  MicroBatch batch;
  batch.token_ids = {1, kImage, 4, kImage, 5, 1, 6, 7};
  batch.labels = {1, kNo, 4, kNo, 5, 1, kNo, 7};
  batch.sample_begin = {0, 5, 8};
  batch.images_per_sample = {2, 0};
  batch.image_token_id = kImage;
  batch.image_size = 1;
  batch.pixels.resize(6);
  return batch;
}

TEST(Splice, AnImagesTokensTakeTheirPlace) {
  SplicedBatch spliced;
  splice(spliced, two_samples(), tiny_config());
  EXPECT_EQ(spliced.sample_begin, (std::vector<int32_t>{0, 7, 10}));
  EXPECT_EQ(spliced.source, (std::vector<int32_t>{1, -1, -2, 4, -3, -4, 5, 1, 6, 7}));
  EXPECT_EQ(spliced.kinds[1], TokenKind::kImage);
  EXPECT_EQ(spliced.kinds[3], TokenKind::kText);
  EXPECT_EQ(spliced.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 0, 1, 2}));
  // The row before predicts, an image's last row too; a sample's first token has none.
  EXPECT_EQ(spliced.target_rows, (std::vector<int32_t>{2, 5, 8}));
  EXPECT_EQ(spliced.target_labels, (std::vector<int32_t>{4, 5, 7}));
  EXPECT_EQ(spliced.labelled, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(two_samples().num_labelled(), spliced.targets());
}

TEST(Splice, WithMmcaASamplesTextLiesBeforeItsImages) {
  VlmConfig config = tiny_config();
  config.mmca = true;
  SplicedBatch spliced;
  splice(spliced, two_samples(), config);
  EXPECT_EQ(spliced.sample_begin, (std::vector<int32_t>{0, 7, 10}));
  EXPECT_EQ(spliced.source, (std::vector<int32_t>{1, 4, 5, -1, -2, -3, -4, 1, 6, 7}));
  EXPECT_EQ(spliced.positions, (std::vector<int32_t>{0, 3, 6, 1, 2, 4, 5, 0, 1, 2}));
  for (size_t row = 0; row < spliced.kinds.size(); ++row)
    EXPECT_EQ(spliced.kinds[row], spliced.source[row] < 0 ? TokenKind::kImage : TokenKind::kText);
  // Labels, each by the row of the position before it, in the order of these rows.
  EXPECT_EQ(spliced.target_rows, (std::vector<int32_t>{4, 6, 8}));
  EXPECT_EQ(spliced.target_labels, (std::vector<int32_t>{4, 5, 7}));
  MicroBatch batch = two_samples();
  batch.token_ids = {1, kImage, 4, 3, kImage, 1, 6, 7};
  batch.labels = {kNo, kNo, 4, 3, kNo, 1, 6, kNo};
  splice(spliced, batch, config);
  EXPECT_EQ(spliced.target_rows, (std::vector<int32_t>{1, 4, 7}));
  EXPECT_EQ(spliced.target_labels, (std::vector<int32_t>{3, 4, 6}));
  splice(spliced, two_samples(), config);
  std::vector<int32_t> rows;
  spliced.rows_by_position(rows);
  EXPECT_EQ(rows, (std::vector<int32_t>{0, 3, 4, 1, 5, 6, 2, 7, 8, 9}));
}

TEST(Splice, TheCompatibleOrderIsReversedInASample) {
  VlmConfig config = tiny_config();
  config.compat_visualchat = true;
  SplicedBatch spliced;
  splice(spliced, two_samples(), config);
  EXPECT_EQ(spliced.source, (std::vector<int32_t>{1, -3, -4, 4, -1, -2, 5, 1, 6, 7}));
}

TEST(Splice, AWrongBatchIsRefusedByName) {
  const auto expect_refused = [](const std::string& words,
                                 const std::function<void(MicroBatch&)>& spoil) {
    MicroBatch batch = two_samples();
    batch.sample_ids = {70, 71};
    spoil(batch);
    SplicedBatch spliced;
    try {
      splice(spliced, batch, tiny_config());
      ADD_FAILURE() << "accepted: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  expect_refused("sample 71: token id 10", [](MicroBatch& b) { b.token_ids[7] = 10; });
  expect_refused("sample 70: token id -5", [](MicroBatch& b) { b.labels[4] = -5; });
  expect_refused("sample 70 has 2 image places for 1 images", [](MicroBatch& b) {
    b.images_per_sample[0] = 1;
    b.pixels.resize(3);
  });
  expect_refused("an image place has a label", [](MicroBatch& b) { b.labels[3] = 2; });
  expect_refused("5 pixel values", [](MicroBatch& b) { b.pixels.resize(5); });
  expect_refused("images of 2 pixels", [](MicroBatch& b) { b.image_size = 2; });
  expect_refused("7 labels for 8 tokens", [](MicroBatch& b) { b.labels.pop_back(); });
}

}  // namespace
}  // namespace facet
