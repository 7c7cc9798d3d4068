// Sizes of the outside world.
#include "base/checked_math.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/edit_distance.h"

namespace facet {
namespace {

constexpr int64_t kLarge = int64_t{1} << 62;

TEST(CheckedProduct, IsTheProductOrNothing) {
  EXPECT_EQ(checked_product({3, 4, 5}), 60);
  EXPECT_EQ(checked_product({}), 1);
  EXPECT_EQ(checked_product({7, 0, 9}), 0);
  EXPECT_EQ(checked_product({INT64_MAX, 1}), INT64_MAX);
  EXPECT_EQ(checked_product(std::vector<int64_t>{2, 3}), 6);
  EXPECT_FALSE(checked_product({kLarge, 2}));
  EXPECT_FALSE(checked_product({kLarge, 4}));  // wraps around to 0
  EXPECT_FALSE(checked_product({int64_t{1} << 32, int64_t{1} << 32, 1}));
  for (const int64_t negative : {int64_t{-1}, INT64_MIN}) {
    EXPECT_FALSE(checked_product({negative}));
    EXPECT_FALSE(checked_product({negative, negative}));
    EXPECT_FALSE(checked_product({0, negative}));
  }
}

TEST(AddSaturated, StaysAtTheLargestNumber) {
  int64_t count = 5;
  add_saturated(count, {3, 4});
  EXPECT_EQ(count, 17);
  add_saturated(count, {kLarge, 1});
  EXPECT_EQ(count, kLarge + 17);
  add_saturated(count, {kLarge, 1});
  EXPECT_EQ(count, INT64_MAX);
  count = 0;
  add_saturated(count, {kLarge, 4});
  EXPECT_EQ(count, INT64_MAX);
}

TEST(LiesWithin, RangesThatWrapAroundDoNot) {
  EXPECT_TRUE(lies_within(0, 0, 0));
  EXPECT_TRUE(lies_within(2, 3, 5));
  EXPECT_FALSE(lies_within(2, 4, 5));
  EXPECT_FALSE(lies_within(6, 0, 5));
  EXPECT_FALSE(lies_within(-1, 2, 5));
  EXPECT_FALSE(lies_within(1, -1, 5));
  EXPECT_FALSE(lies_within(kLarge, kLarge, 5));
  EXPECT_FALSE(lies_within(1, INT64_MAX, INT64_MAX));
}

TEST(EditDistance, CountsLettersAndCostsLittleForLongWords) {
  EXPECT_EQ(edit_distance("sead", "seed"), 1u);
  EXPECT_EQ(edit_distance("precisoin", "precision"), 2u);
  EXPECT_EQ(edit_distance("", "seed"), 4u);
  const std::string_view word = "stage3_param_persistence_threshold";
  EXPECT_EQ(edit_distance(word, word), 0u);
  const std::string longer(30'000'000, 'x');
  EXPECT_EQ(edit_distance(longer, word), longer.size());
  EXPECT_EQ(edit_distance(word, longer), longer.size());
  EXPECT_EQ(edit_distance(longer, longer), 0u);
  EXPECT_EQ(edit_distance(longer, longer + "ab"), 2u);
}

}  // namespace
}  // namespace facet
