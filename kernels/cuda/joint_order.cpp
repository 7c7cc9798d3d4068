#include "kernels/cuda/joint_order.h"

#include <algorithm>

namespace facet::cuda {
namespace {

// A step; a tile's own rows; from the end of a step until its block of rows is passed on.
constexpr int64_t kStep = 10, kTile = 20, kPassing = 6;
// So many steps' shorter a tile may be that waits a step less.
constexpr int64_t kOfWaiting = 5;

}  // namespace

void JointSteps::clear() {
  blocks.clear();
  begins.assign(1, 0);
  num_blocks = 0;
}

int32_t JointSteps::size_of(int32_t tile) const {
  const auto t = static_cast<size_t>(tile);
  return begins[t + 1] - begins[t];
}

JointShare JointShare::of(int64_t multiprocessors, int64_t heads, int64_t kv_heads) {
  return {static_cast<int32_t>(std::max<int64_t>(1, multiprocessors / kv_heads)),
          static_cast<int32_t>(heads / kv_heads)};
}

void JointOrder::start_model(const JointSteps& steps) {
  free_at_.assign(static_cast<size_t>(share_.multiprocessors), 0);
  may_add_.assign(static_cast<size_t>(steps.num_blocks) * static_cast<size_t>(share_.group), 0);
}

template <typename Body>
void JointOrder::for_steps(const JointSteps& steps, int32_t tile, const Body& body) {
  const auto t = static_cast<size_t>(tile), blocks = static_cast<size_t>(steps.num_blocks);
  for (size_t head = 0; head < static_cast<size_t>(share_.group); ++head)
    for (auto i = static_cast<size_t>(steps.begins[t]);
         i < static_cast<size_t>(steps.begins[t + 1]); ++i)
      body(may_add_[head * blocks + static_cast<size_t>(steps.blocks[i])]);
}

// A tile that begins as soon as a multiprocessor is free.
JointOrder::Run JointOrder::run_of(const JointSteps& steps, int32_t tile) {
  Run run{*std::min_element(free_at_.begin(), free_at_.end()) + kTile};
  for_steps(steps, tile, [&run](int64_t may_add) {
    const int64_t waits = std::max<int64_t>(0, may_add - run.end - kStep);
    run.end += kStep + waits;
    run.waited += waits;
  });
  return run;
}

void JointOrder::run(const JointSteps& steps, int32_t tile) {
  int64_t& now = *std::min_element(free_at_.begin(), free_at_.end());
  now += kTile;
  for_steps(steps, tile, [&now](int64_t& may_add) {
    now = std::max(now + kStep, may_add);
    may_add = now + kPassing;
  });
}

int64_t JointOrder::pair_tiles(const JointSteps& steps, std::vector<int32_t>& order) {
  start_model(steps);
  order.clear();
  const int32_t count = steps.num_tiles(), half = count / 2;
  for (int32_t i = 0; i < count; ++i) {
    order.push_back(i < half ? half - 1 - i : i);
    run(steps, order.back());
  }
  return *std::max_element(free_at_.begin(), free_at_.end());
}

int64_t JointOrder::choose_tiles(const JointSteps& steps, std::vector<int32_t>& order) {
  start_model(steps);
  order.clear();
  rest_.clear();
  for (int32_t i = 0; i < steps.num_tiles(); ++i) rest_.push_back(i);
  const auto cost = [&](int32_t tile) {
    return kOfWaiting * run_of(steps, tile).waited -
           kStep * steps.size_of(tile) * int64_t{share_.group};
  };
  while (!rest_.empty()) {
    auto best = rest_.begin();
    int64_t least = cost(*best);
    for (auto tile = rest_.begin() + 1; tile != rest_.end(); ++tile)
      if (const int64_t its = cost(*tile); its < least) {
        least = its;
        best = tile;
      }
    order.push_back(*best);
    run(steps, *best);
    rest_.erase(best);
  }
  return *std::max_element(free_at_.begin(), free_at_.end());
}

void JointOrder::take_turns(const JointSteps& steps) {
  turns_.resize(steps.blocks.size());
  turns_of_blocks_.assign(static_cast<size_t>(steps.num_blocks), 0);
  for (const int32_t tile : tiles_) {
    const auto t = static_cast<size_t>(tile);
    for (auto i = static_cast<size_t>(steps.begins[t]);
         i < static_cast<size_t>(steps.begins[t + 1]); ++i)
      turns_[i] = turns_of_blocks_[static_cast<size_t>(steps.blocks[i])]++;
  }
}

void JointOrder::make(const JointSteps& steps, const JointShare& share) {
  share_ = share;
  const int64_t chosen = choose_tiles(steps, tiles_), paired = pair_tiles(steps, pairs_);
  if (paired <= chosen) tiles_.swap(pairs_);
  take_turns(steps);
}

}  // namespace facet::cuda
