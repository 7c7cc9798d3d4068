#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace facet {
namespace {

const std::vector<int32_t> kPositions = [] {
  std::vector<int32_t> positions(40);
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}();

LlamaConfig config_of(RopeScaling::Type type) {
  LlamaConfig config;
  config.head_dim = 16;
  config.max_position_embeddings = 16;
  config.rope_scaling.type = type;
  config.rope_scaling.factor = 2;
  return config;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_NEAR(actual[i] / expected[i], 1, 1e-6) << "pair " << i;
}

std::vector<double> powers(double base, double divisor) {
  std::vector<double> result;
  for (int i = 0; i < 8; ++i) result.push_back(1 / std::pow(base, i / 8.0) / divisor);
  return result;
}

TEST(Rope, PlainAndLinearFrequencies) {
  LlamaConfig config = config_of(RopeScaling::Type::kNone);
  expect_near(RopeTable(config).frequencies(1000), powers(10000, 1));
  config.rope_theta = 500;
  expect_near(RopeTable(config).frequencies(3), powers(500, 1));
  expect_near(RopeTable(config_of(RopeScaling::Type::kLinear)).frequencies(3), powers(10000, 2));
}

// The long row was printed by transformers 4.46 for the same configuration and 40 tokens.
TEST(Rope, DynamicStretchesBeyondTheTrainedLengthWithoutMemory) {
  RopeTable table(config_of(RopeScaling::Type::kDynamic));
  EXPECT_FALSE(table.stretches(16));
  EXPECT_TRUE(table.stretches(17));
  expect_near(table.frequencies(16), powers(10000, 1));
  expect_near(
      table.frequencies(40),
      {1.0, 0.25941282510757446, 0.06729500740766525, 0.01745718903839588, 0.0045286184176802635,
       0.0011747815879061818, 0.0003047533973585814, 7.905694656074047e-05});
  std::vector<float> cos, sin;
  table.append_rows(cos, sin, kPositions, 40);
  cos.clear();
  sin.clear();
  table.append_rows(cos, sin, std::vector<int32_t>{3}, 5);  // a short sample after a long one
  EXPECT_FLOAT_EQ(cos[1], static_cast<float>(std::cos(3 / std::pow(10000, 1 / 8.0))));
}

// Printed by transformers 4.46 for Llama 3.1's configuration with 16 channels a head.
TEST(Rope, Llama3BlendsLongAndShortWavelengths) {
  LlamaConfig config = config_of(RopeScaling::Type::kLlama3);
  config.rope_theta = 500000;
  config.rope_scaling.factor = 8;
  expect_near(
      RopeTable(config).frequencies(5),
      {1.0, 0.193922758102417, 0.03760603070259094, 0.00729266507551074, 0.0005248460220173001,
       3.428102354519069e-05, 6.647869668086059e-06, 1.289173155782919e-06});
}

TEST(Rope, RowsOfAPieceAreRowsOfTheWhole) {
  const std::span<const int32_t> positions = std::span(kPositions).first(33);
  for (const auto type : {RopeScaling::Type::kNone, RopeScaling::Type::kDynamic}) {
    RopeTable table(config_of(type));
    std::vector<float> cos, sin, cos_piece, sin_piece;
    table.append_rows(cos, sin, positions, 33);
    for (size_t begin = 0; begin < 33; begin += 11)
      table.append_rows(cos_piece, sin_piece, positions.subspan(begin, 11), 33);
    EXPECT_EQ(cos.size(), 33u * 8u);
    EXPECT_EQ(cos, cos_piece);
    EXPECT_EQ(sin, sin_piece);
    for (size_t i = 0; i < cos.size(); ++i) {
      const double angle = static_cast<double>(i / 8) * table.frequencies(33)[i % 8];
      EXPECT_NEAR(cos[i], std::cos(angle), 1e-7);
      EXPECT_NEAR(sin[i], std::sin(angle), 1e-7);
    }
  }
}

}  // namespace
}  // namespace facet
