// The order in which the blocks of attention's joint backward begin, and their turns. Blocks that
// add to the same rows of dq wait for each other, each only for those that began before it: so the
// order decides how long they wait.
//
// Two orders are tried on a model of one key/value head's share of a GPU, and the one that ends
// first is taken:
//
// - Tiles sorted by their steps, from the middle to the longest and then from the middle to the
//   shortest: a multiprocessor's two tiles are as long as another's, and a tile of causal attention
//   comes to a block of queries when the one before it there has left it two steps ago.
// - One after the other, the tile that waits least if it begins next, the longest first. Parts of
//   MMCA have many tiles whose queries begin at the same row.
#pragma once

#include <cstdint>
#include <vector>

namespace facet::cuda {

// What the tiles of keys add to: of each the blocks of rows of q of its steps, in their order.
struct JointSteps {
  std::vector<int32_t> blocks;
  std::vector<int32_t> begins = {0};  // of each tile in `blocks`, and the end
  int32_t num_blocks = 0;             // of rows of q

  void clear();
  void end_tile() { begins.push_back(static_cast<int32_t>(blocks.size())); }
  int32_t num_tiles() const { return static_cast<int32_t>(begins.size()) - 1; }
  int32_t size_of(int32_t tile) const;
};

// What a key/value head has of a GPU, and its query heads, which a block takes one after the other.
struct JointShare {
  int32_t multiprocessors = 0;  // 0: there is no joint backward
  int32_t group = 1;

  static JointShare of(int64_t multiprocessors, int64_t heads, int64_t kv_heads);
};

class JointOrder {
 public:
  // Allocates nothing once it has grown to the largest. Tiles are sorted by their steps, the
  // longest first.
  void make(const JointSteps& steps, const JointShare& share);

  const std::vector<int32_t>& tiles() const { return tiles_; }  // in the order of their beginning
  // Of each tile's steps, as they lie in JointSteps: how many steps of other tiles, or of its own
  // before, have added to the same block.
  const std::vector<int32_t>& turns() const { return turns_; }
  // Of each block of rows: how many steps add to it.
  const std::vector<int32_t>& turns_of_blocks() const { return turns_of_blocks_; }

 private:
  // Times are tenths of a step.
  struct Run {
    int64_t end = 0, waited = 0;
  };
  void start_model(const JointSteps& steps);
  // Calls body(when the next tile may add) for the steps of a tile.
  template <typename Body>
  void for_steps(const JointSteps& steps, int32_t tile, const Body& body);
  Run run_of(const JointSteps& steps, int32_t tile);
  void run(const JointSteps& steps, int32_t tile);
  // Fill an order and return when it ends.
  int64_t pair_tiles(const JointSteps& steps, std::vector<int32_t>& order);
  int64_t choose_tiles(const JointSteps& steps, std::vector<int32_t>& order);
  void take_turns(const JointSteps& steps);

  JointShare share_;
  std::vector<int32_t> tiles_, turns_, turns_of_blocks_;
  std::vector<int32_t> pairs_, rest_;
  std::vector<int64_t> free_at_;  // from when on: the multiprocessors
  std::vector<int64_t> may_add_;  // and, for the next tile, the blocks of rows of each query head
};

}  // namespace facet::cuda
