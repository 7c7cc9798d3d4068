#include "base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace facet {
namespace {

// The known answers of Philox4x32-10 that its authors publish with Random123 (kat_vectors).
TEST(Rng, PhiloxGivesThePublishedAnswers) {
  const std::array<uint32_t, 4> zero = philox4x32({0, 0, 0, 0}, {0, 0});
  EXPECT_EQ(zero, (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t f = 0xffffffff;
  const std::array<uint32_t, 4> ones = philox4x32({f, f, f, f}, {f, f});
  EXPECT_EQ(ones, (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Rng, AStreamIsAFunctionOfItsFourKeys) {
  RandomStream a(1, "order", 2, 3), same(1, "order", 2, 3), seed(2, "order", 2, 3),
      purpose(1, "question", 2, 3), first(1, "order", 3, 3), second(1, "order", 2, 4);
  const uint64_t draw = a.next_u64();
  EXPECT_EQ(draw, same.next_u64());
  for (RandomStream* other : {&seed, &purpose, &first, &second}) EXPECT_NE(draw, other->next_u64());
}

TEST(Rng, BelowIsUniformAndInRange) {
  RandomStream stream(7, "test");
  std::array<int, 5> hits{};
  for (int i = 0; i < 50000; ++i) ++hits[stream.below(5)];
  for (const int count : hits) EXPECT_NEAR(count, 10000, 500);
}

TEST(Rng, NormalHasMeanZeroAndVarianceOne) {
  RandomStream stream(7, "test");
  double sum = 0, squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = stream.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 1e5, 0, 0.02);
  EXPECT_NEAR(squares / 1e5, 1, 0.03);
}

TEST(Rng, PermutationHoldsEveryIndexOnce) {
  std::vector<int64_t> order = random_permutation(1000, RandomStream(3, "order"));
  EXPECT_NE(order, random_permutation(1000, RandomStream(4, "order")));
  std::sort(order.begin(), order.end());
  std::vector<int64_t> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

}  // namespace
}  // namespace facet
