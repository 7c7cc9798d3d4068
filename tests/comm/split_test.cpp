// Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include "comm/split.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

// Even and odd ranks, each in their order; the last one belongs to none.
TEST(Split, PartsHaveTheirRanksInOrder) {
  Communicator world(MPI_COMM_WORLD);
  const int rank = world.rank(), last = world.size() - 1;
  const std::unique_ptr<Communicator> part = split(world, rank == last ? -1 : rank % 2);
  if (rank == last) {
    EXPECT_EQ(part, nullptr);
    return;
  }
  ASSERT_NE(part, nullptr);
  EXPECT_EQ(part->size(), (last - rank % 2 + 1) / 2);
  EXPECT_EQ(part->rank(), rank / 2);
  int64_t sum = 0;
  for (int other = rank % 2; other < last; other += 2) sum += other;
  EXPECT_EQ(part->sum(int64_t{rank}), sum);
}

TEST(Split, OnePartIsAllRanksInOrder) {
  Communicator world(MPI_COMM_WORLD);
  const std::unique_ptr<Communicator> part = split(world, 5);
  ASSERT_NE(part, nullptr);
  EXPECT_EQ(part->size(), world.size());
  EXPECT_EQ(part->rank(), world.rank());
}

}  // namespace
}  // namespace facet
