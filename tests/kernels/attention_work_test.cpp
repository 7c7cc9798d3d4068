// The work lists of attention: what is said of whole steps, and how evenly blocks fill a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <random>

#include "kernels/cuda/attention_work.h"
#include "tests/ops/attention_oracle.h"

namespace facet::cuda {
namespace {

constexpr int kBatches = 100;
constexpr int64_t kHeads = 32;

// Batches of two to four conversations of 2048 to 4096 tokens with up to eight images in them. The
// rows are sorted by kind.
AttentionPlan drawn_plan(std::mt19937& random, op_test::Rule rule) {
  const auto draw = [&](int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
  };
  op_test::Samples conversations;
  for (int samples = draw(2, 4); samples > 0; --samples) {
    std::string tokens;
    const auto length = static_cast<size_t>(draw(2048, 4096));
    for (int images = draw(0, 8); images > 0; --images) {
      tokens.append(static_cast<size_t>(draw(1, 200)), 't');
      tokens.append(256, 'i');
    }
    tokens.resize(std::max(tokens.size(), length), 't');
    conversations.push_back(tokens);
  }
  return op_test::plan_of(conversations, rule, op_test::Order::kByKind);
}

template <typename T>
const T* section(const AttentionLists& lists, int32_t offset) {
  return reinterpret_cast<const T*>(lists.data + offset);
}
const int32_t* bounds_of(const AttentionLists& lists, const AttentionRange& range) {
  return lists.data + lists.bounds + range.bound_begin;
}

// Calls body for the lists of every batch.
template <typename Body>
void for_batches(int batches, const JointShare& share, const Body& body) {
  std::mt19937 random(7);
  for (int batch = 0; batch < batches; ++batch) {
    const op_test::Rule rule =
        batch % 2 == 0 ? op_test::Rule::kPublished : op_test::Rule::kVisualChat;
    const AttentionPlan plan = drawn_plan(random, rule);
    const AttentionWork work(plan, share);
    body(work.lists(work.words().data()));
  }
}

template <typename Body>
void for_ranges(const AttentionLists& lists, const AttentionTile& tile, const Body& body) {
  const auto* ranges = section<AttentionRange>(lists, lists.ranges) + tile.range_begin;
  std::for_each(ranges, ranges + tile.num_ranges, body);
}

TEST(AttentionWork, EveryRowOfThePartSeesTheFullKeysAndOneNoMore) {
  for_batches(4, {}, [](const AttentionLists& lists) {
    for (int32_t t = 0; t < lists.num_query_tiles; ++t)
      for_ranges(lists, section<AttentionTile>(lists, lists.query_tiles)[t],
                 [&](const AttentionRange& range) {
                   int32_t least = range.count;
                   for (int i = 0; i < kTileRows; ++i)
                     if (const int32_t bound = bounds_of(lists, range)[i]; bound > 0)
                       least = std::min(least, bound);
                   EXPECT_EQ(range.full, range.is_mean ? 0 : least);
                 });
  });
}

TEST(AttentionWork, TheFullQueriesSeeEveryRowOfTheTileAndTheOneBeforeThemDoesNot) {
  for_batches(4, {}, [](const AttentionLists& lists) {
    for (int32_t t = 0; t < lists.num_key_tiles; ++t) {
      const AttentionTile tile = section<AttentionTile>(lists, lists.key_tiles)[t];
      for_ranges(lists, tile, [&](const AttentionRange& range) {
        const int32_t* bounds = bounds_of(lists, range);
        const int32_t most = *std::max_element(bounds, bounds + tile.num_rows);
        const int32_t* visible = lists.data + lists.visible_keys + range.visible_begin;
        int32_t full = 0;
        while (full < range.count && visible[range.count - 1 - full] > most) ++full;
        EXPECT_EQ(range.full, range.is_mean ? 0 : full);
      });
    }
  });
}

TEST(AttentionWork, AWindowBoundsWhatATileReads) {
  constexpr int64_t kWindow = 100;
  const op_test::Samples samples = {std::string(1000, 't')};
  const AttentionWork work(
      op_test::plan_of(samples, op_test::Rule::kCausal, op_test::Order::kByPosition, kWindow));
  const AttentionLists lists = work.lists(work.words().data());
  for (int32_t t = 0; t < lists.num_query_tiles + lists.num_key_tiles; ++t)
    for_ranges(
        lists, section<AttentionTile>(lists, lists.query_tiles)[t],
        [&](const AttentionRange& range) { EXPECT_LE(range.count, kTileRows + kWindow - 1); });
}

// The blocks of a kernel, one per tile and head: they take so many rows of the other side a step,
// through so many products.
struct Blocks {
  bool of_keys;  // else of query tiles
  int step, products;
};
// What runs at the same time: of each multiprocessor's places, the blocks of the first kernel get
// those that are free until all of them have one.
struct Schedule {
  const char* what;
  std::vector<Blocks> kernels;
  int places_of_multiprocessor;
};
const Schedule kSchedules[] = {
    {"forward", {{false, kStepRows, 2}}, 2},
    {"Hopper's forward", {{false, 128, 2}}, 1},
    {"backward at widths 64 and 80", {{true, kStepRows, 4}, {false, 2 * kStepRows, 3}}, 1},
    {"backward at width 128", {{true, kStepRows, 4}, {false, kStepRows, 3}}, 1},
    {"Hopper's backward", {{true, 64, 4}, {false, 128, 3}}, 1}};

// A block takes its steps, for each query head of its key/value head, and what two steps take for
// its own tile. Calls body(time) for all of them in their order.
template <typename Body>
void for_blocks(const AttentionLists& lists, const Blocks& blocks, int64_t kv_heads,
                const Body& body) {
  const int64_t heads = blocks.of_keys ? kv_heads : kHeads;
  const auto* tiles =
      section<AttentionTile>(lists, blocks.of_keys ? lists.key_tiles : lists.query_tiles);
  const int32_t num_tiles = blocks.of_keys ? lists.num_key_tiles : lists.num_query_tiles;
  for (int32_t tile = 0; tile < num_tiles; ++tile) {
    int64_t steps = 0;
    for_ranges(lists, tiles[tile], [&](const AttentionRange& range) {
      steps += (range.count + blocks.step - 1) / blocks.step;
    });
    const int64_t time = (2 + steps * (kHeads / heads)) * blocks.step * blocks.products;
    for (int64_t head = 0; head < heads; ++head) body(time);
  }
}

// How much longer than ideal the blocks take, each going to the place that is free first.
double stretch(const AttentionLists& lists, const Schedule& schedule, int multiprocessors,
               int64_t kv_heads) {
  const int places = multiprocessors * schedule.places_of_multiprocessor;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> free_at;
  for (int i = 0; i < places; ++i) free_at.push(0);
  int64_t sum = 0, longest = 0, end = 0;
  for (const Blocks& blocks : schedule.kernels)
    for_blocks(lists, blocks, kv_heads, [&](int64_t time) {
      const int64_t done = free_at.top() + time;
      free_at.pop();
      free_at.push(done);
      sum += time;
      end = std::max(end, done);
      longest = std::max(longest, time);
    });
  return static_cast<double>(end) /
         std::max(static_cast<double>(sum) / places, static_cast<double>(longest));
}

// On an A100 and on an H200, with as many key/value heads as query heads and with a quarter of
// them: then a multiprocessor has three to five blocks of keys, too long to end together by
// themselves.
TEST(AttentionWork, BlocksEndTogether) {
  for (const int multiprocessors : {108, 132})
    for (const int64_t kv_heads : {kHeads, kHeads / 4}) {
      std::vector<double> sums(std::size(kSchedules));
      for_batches(kBatches, {}, [&](const AttentionLists& lists) {
        for (size_t i = 0; i < sums.size(); ++i)
          sums[i] += stretch(lists, kSchedules[i], multiprocessors, kv_heads);
      });
      for (size_t i = 0; i < sums.size(); ++i)
        EXPECT_LE(sums[i] / kBatches, 1.02)
            << kSchedules[i].what << ", " << kv_heads << " key/value heads, " << multiprocessors
            << " multiprocessors";
    }
}

// ---- the joint backward: blocks that wait for each other

template <typename Body>
void for_joint_tiles(const AttentionLists& lists, const Body& body) {
  const auto* joint = section<JointTile>(lists, lists.joint_tiles);
  for (int32_t i = 0; i < lists.num_key_tiles; ++i)
    body(section<AttentionTile>(lists, lists.key_tiles)[joint[i].key_tile],
         lists.data + joint[i].turn_begin);
}
// Calls body(block of rows of q, turn) for the steps of a tile.
template <typename Body>
void for_joint_steps(const AttentionLists& lists, const AttentionTile& tile, const int32_t* turns,
                     const Body& body) {
  for_ranges(lists, tile, [&](const AttentionRange& range) {
    for (int32_t block = range.begin / kStepRows; block * kStepRows < range.begin + range.count;
         ++block)
      body(static_cast<size_t>(block), *turns++);
  });
}

// No block waits for one that begins later, nor for ever.
TEST(AttentionWork, TurnsAreTakenInTheOrderInWhichTilesBegin) {
  for_batches(4, JointShare::of(132, kHeads, kHeads), [](const AttentionLists& lists) {
    const auto blocks = static_cast<size_t>((lists.query_rows + kStepRows - 1) / kStepRows);
    std::vector<int32_t> next(blocks, 0);
    std::vector<int> taken(static_cast<size_t>(lists.num_key_tiles), 0);
    for_joint_tiles(lists, [&](const AttentionTile& tile, const int32_t* turns) {
      ++taken[static_cast<size_t>(&tile - section<AttentionTile>(lists, lists.key_tiles))];
      for_joint_steps(lists, tile, turns,
                      [&](size_t block, int32_t turn) { EXPECT_EQ(turn, next[block]++); });
    });
    EXPECT_EQ(taken, std::vector<int>(taken.size(), 1));
    EXPECT_EQ(next, std::vector<int32_t>(lists.data + lists.turns_of_blocks,
                                         lists.data + lists.turns_of_blocks + blocks));
  });
}

// As stretch(), with the waits for turns, in steps. A block's own tile takes two; 0.6 go by from
// the end of a step until another block may add to the same sums.
double joint_stretch(const AttentionLists& lists, int multiprocessors, int64_t kv_heads) {
  constexpr double kTile = 2, kPassing = 0.6;
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (int i = 0; i < multiprocessors; ++i) free_at.push(0);
  const auto blocks = static_cast<size_t>((lists.query_rows + kStepRows - 1) / kStepRows);
  std::vector<double> may_add(static_cast<size_t>(kHeads) * blocks, 0);
  double sum = 0, longest = 0, end = 0;
  for_joint_tiles(lists, [&](const AttentionTile& tile, const int32_t* turns) {
    for (int64_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
      double now = free_at.top() + kTile, work = kTile;
      free_at.pop();
      for (int64_t h = 0; h < kHeads / kv_heads; ++h)
        for_joint_steps(lists, tile, turns, [&](size_t block, int32_t) {
          const int64_t head = kv_head * (kHeads / kv_heads) + h;
          double& may = may_add[static_cast<size_t>(head) * blocks + block];
          now = std::max(now + 1, may);
          may = now + kPassing;
          ++work;
        });
      free_at.push(now);
      sum += work;
      longest = std::max(longest, work);
      end = std::max(end, now);
    }
  });
  return end / std::max(sum / multiprocessors, longest);
}

// On an H200. Two causal samples of 4096 tokens, and the batches above by their rule, on average.
TEST(AttentionWork, JointBlocksHardlyWait) {
  struct Bound {
    int64_t kv_heads;
    double causal, published, visual_chat;
  };
  for (const auto& [kv_heads, causal, published, visual_chat] :
       {Bound{kHeads, 1.02, 1.025, 1.07}, {kHeads / 4, 1.03, 1.12, 1.35}}) {
    const JointShare share = JointShare::of(132, kHeads, kv_heads);
    const AttentionWork work(op_test::plan_of({std::string(4096, 't'), std::string(4096, 't')},
                                              op_test::Rule::kCausal, op_test::Order::kByKind),
                             share);
    EXPECT_LE(joint_stretch(work.lists(work.words().data()), 132, kv_heads), causal) << kv_heads;
    double sums[2] = {};
    int batch = 0;
    for_batches(kBatches, share, [&](const AttentionLists& lists) {
      sums[batch++ % 2] += joint_stretch(lists, 132, kv_heads);
    });
    EXPECT_LE(sums[0], published * kBatches / 2) << kv_heads;
    EXPECT_LE(sums[1], visual_chat * kBatches / 2) << kv_heads;
  }
}

}  // namespace
}  // namespace facet::cuda
