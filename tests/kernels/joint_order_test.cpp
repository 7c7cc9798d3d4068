// The order in which the blocks of attention's joint backward begin, on small lists: a tile takes
// 20, a step 10, and a block of rows is passed on 6 after a step ends. The lists were drawn at
// random, and those taken that notice most changes of the model; a second implementation of it,
// from the description in joint_order.h, gave the same orders and ends.
#include "kernels/cuda/joint_order.h"

#include <gtest/gtest.h>

namespace facet::cuda {
namespace {

struct OrderCase {
  JointShare share;
  std::vector<std::vector<int32_t>> tiles;  // of each the blocks of its steps
  std::vector<int32_t> order, turns, turns_of_blocks;
};

// Ends of the order that is taken and of the other one are 122 and 126 in the first case, 120 and
// 132 in the third, where tiles are chosen; in the others 120 for both, which takes the pairs.
const OrderCase kOrderCases[] = {
    {{2, 1},
     {{1, 1, 2}, {2, 3}, {2, 3}, {2}, {1}, {1}},
     {0, 4, 1, 2, 3, 5},
     {0, 1, 0, 1, 0, 2, 1, 3, 2, 3},
     {0, 4, 4, 2}},
    {{2, 2}, {{1, 1, 2}, {0}, {2}, {1}}, {1, 0, 2, 3}, {0, 1, 0, 0, 1, 2}, {1, 3, 2}},
    {{3, 2},
     {{0, 1, 2}, {0, 0, 1}, {0, 1}, {1}, {3}},
     {0, 1, 4, 2, 3},
     {0, 0, 0, 1, 2, 1, 3, 2, 3, 0},
     {4, 4, 1, 1}},
    {{2, 2}, {{1, 1, 2}, {1}, {0}, {1}}, {1, 0, 2, 3}, {1, 2, 0, 0, 0, 3}, {1, 4, 1}}};

TEST(JointOrder, TakesTheOrderThatEndsFirst) {
  JointSteps steps;
  JointOrder order;
  for (const OrderCase& c : kOrderCases) {
    steps.clear();
    EXPECT_EQ(steps.num_blocks, 0);
    steps.num_blocks = static_cast<int32_t>(c.turns_of_blocks.size());
    for (const std::vector<int32_t>& tile : c.tiles) {
      steps.blocks.insert(steps.blocks.end(), tile.begin(), tile.end());
      steps.end_tile();
    }
    order.make(steps, c.share);
    EXPECT_EQ(order.tiles(), c.order);
    EXPECT_EQ(order.turns(), c.turns);
    EXPECT_EQ(order.turns_of_blocks(), c.turns_of_blocks);
  }
}

TEST(JointOrder, AHeadHasItsShareOfAGpu) {
  const JointShare share = JointShare::of(132, 32, 8);
  EXPECT_EQ(share.multiprocessors, 16);
  EXPECT_EQ(share.group, 4);
  EXPECT_EQ(JointShare::of(4, 32, 8).multiprocessors, 1);
}

}  // namespace
}  // namespace facet::cuda
