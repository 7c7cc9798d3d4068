#include "model/page_pool.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

using Pages = std::vector<int32_t>;

PageKey key_of(uint64_t value) {
  PageKey key;
  key.add(value);
  return key;
}

Pages taken(PagePool& pool, int64_t count) {
  Pages pages;
  pool.take(count, pages);
  return pages;
}

TEST(PagePool, PagesAreAdjacentWhereTheyCanBe) {
  PagePool pool(8);
  EXPECT_EQ(taken(pool, 2), (Pages{0, 1}));
  EXPECT_EQ(taken(pool, 3), (Pages{2, 3, 4}));
  EXPECT_EQ(taken(pool, 1), (Pages{5}));
  for (const int32_t page : {2, 3, 4}) pool.release(page);
  // The shortest run that is long enough; then the longest first.
  EXPECT_EQ(taken(pool, 2), (Pages{6, 7}));
  pool.release(0);
  EXPECT_EQ(taken(pool, 4), (Pages{2, 3, 4, 0}));
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(PagePool, APageIsFreeWhenTheLastUserHasLeft) {
  PagePool pool(2);
  taken(pool, 1);
  pool.write(0, key_of(7));
  EXPECT_EQ(pool.share(key_of(7)), 0);
  EXPECT_EQ(pool.share(key_of(8)), std::nullopt);
  pool.release(0);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(taken(pool, 1), (Pages{1}));
  pool.release(0);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(PagePool, AFreePageIsFoundUntilItIsTaken) {
  PagePool pool(1);
  taken(pool, 1);
  pool.write(0, key_of(7));
  pool.release(0);
  EXPECT_EQ(pool.share(key_of(7)), 0);
  EXPECT_EQ(pool.num_free(), 0);
  pool.release(0);
  taken(pool, 1);
  EXPECT_EQ(pool.share(key_of(7)), std::nullopt);
}

}  // namespace
}  // namespace facet
