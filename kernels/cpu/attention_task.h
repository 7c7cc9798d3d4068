// Shared by the forward and the backward pass of attention. A task is one sample, one key/value
// head and the query heads that use it. The keys of a part are gathered once into the thread's
// scratch, then blocks of query rows run over tiles of keys. The result of a task does not depend
// on the thread that runs it, so tasks are scheduled dynamically and the bits stay the same.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/tensor.h"
#include "kernels/cpu/attention_tile.h"
#include "ops/attention_plan.h"

namespace facet::attention {

// A matrix (N, heads*E), and access to the rows of one head.
struct HeadMatrix {
  float* data = nullptr;
  int64_t stride = 0;
  int64_t width = 0;  // E

  HeadMatrix(const Tensor& tensor, int64_t head_width)
      : data(tensor.defined() ? tensor.f32() : nullptr),
        stride(tensor.defined() ? tensor.row_stride() : 0),
        width(head_width) {}
  float* row(int64_t row, int64_t head) const { return data + row * stride + head * width; }
  HeadRows rows(int64_t head, const RowRange* ranges, int64_t count) const {
    return {data + head * width, stride, ranges, count, width};
  }
};

// k or v (N, G*E), in fp32 or 16 bits.
class KeyMatrix {
 public:
  KeyMatrix(const Tensor& tensor, int64_t head_width)
      : tensor_(tensor), stride_(tensor.row_stride()), width_(head_width) {}
  DType dtype() const { return tensor_.dtype(); }
  // Of `heads` heads from `head` on. `wide`: for for_rows() in 16 bits, kLanes * padded(heads * E)
  // floats.
  HeadRows rows(int64_t head, int64_t heads, const RowRange* ranges, int64_t count,
                float* wide) const {
    const int64_t at = head * width_;
    if (tensor_.dtype() == DType::kF32)
      return {tensor_.f32() + at, stride_, ranges, count, heads * width_};
    return {.stride = stride_,
            .ranges = ranges,
            .count = count,
            .width = heads * width_,
            .words = tensor_.data<uint16_t>() + at,
            .dtype = tensor_.dtype(),
            .wide = wide};
  }

 private:
  Tensor tensor_;
  int64_t stride_, width_;
};

// Query heads [first, end).
struct Heads {
  int64_t first, end;

  int64_t count() const { return end - first; }
};

struct Shape {
  int64_t heads, kv_heads, width, num_queries;  // H, G, E, Nq
  float scale;

  int64_t group() const { return heads / kv_heads; }
  int64_t kv_head(int64_t head) const { return head / group(); }
};

// Hands out pieces of a thread's scratch memory; without memory it only counts.
class Carver {
 public:
  explicit Carver(float* memory) : memory_(memory) {}
  float* take(int64_t floats) {
    float* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += padded(floats);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

// Whether there is enough work for more than one thread, with up to that many keys per row.
bool worth_threads(const Tensor& q, int64_t keys);
int64_t most_keys(const AttentionPlan& plan);  // of a part, at least 1
// The sizes of an operator.
Shape shape_of(const Tensor& q, int64_t heads, int64_t kv_heads, float scale);

// The row of v that is added to a row of out, or -1.
inline int64_t self_key(const AttentionPlan& plan, const AttentionSample& sample, int64_t row) {
  for (int64_t i = 0; i < sample.num_self; ++i) {
    const SelfRows& self = plan.self_rows[static_cast<size_t>(sample.self_begin + i)];
    if (row >= self.query && row < self.query + self.count) return self.key + row - self.query;
  }
  return -1;
}

// Queries [first, first + count) of a part; their rows, and the prefixes they see but for what
// their window hides at the front.
struct QueryBlock {
  QueryBlock(const AttentionPlan& plan, const AttentionPart& part, int64_t first, int64_t count)
      : rows{static_cast<int32_t>(part.queries.first + first), static_cast<int32_t>(count)},
        visible(plan.visible_keys.data() + part.visible_begin + first),
        hidden(plan.hidden_keys.empty() ? nullptr
                                        : plan.hidden_keys.data() + part.visible_begin + first),
        count(count) {}
  RowRange rows;
  const int32_t* visible;
  const int32_t* hidden;  // null: no window
  int64_t count;

  int64_t row(int64_t i) const { return rows.first + i; }
  // The first key of the first tile of which any of them sees a key.
  int64_t first_tile() const { return hidden == nullptr ? 0 : hidden[0] / kKeyTile * kKeyTile; }
  int64_t num_keys() const { return visible[count - 1]; }  // that any of them sees
};

// The part of a block's prefixes that lies in one tile of keys.
struct Tile {
  Tile(const QueryBlock& block, int64_t begin)
      : begin(begin),
        keys(std::min(kKeyTile, block.num_keys() - begin)),
        is_first(begin == block.first_tile()) {
    for (int64_t i = 0; i < block.count; ++i) {
      visible[i] = within(block.visible[i]);
      hidden[i] = block.hidden == nullptr ? 0 : within(block.hidden[i]);
    }
  }
  // Each of its `rows` rows `times` times, one after the other.
  Tile repeated(int64_t rows, int64_t times) const {
    Tile tile = *this;
    for (int64_t r = 0; r < rows * times; ++r) {
      tile.visible[r] = visible[r / times];
      tile.hidden[r] = hidden[r / times];
    }
    return tile;
  }
  int64_t begin, keys;
  bool is_first;
  int32_t visible[kQueryBlock], hidden[kQueryBlock];

 private:
  int32_t within(int32_t key) const {
    return static_cast<int32_t>(std::clamp<int64_t>(key - begin, 0, keys));
  }
};

// scores (block, kScoreStride) = rows (block, E) times the tile's keys or values (E, keys),
// gathered and transposed.
void multiply_by_tile(float* scores, const float* rows, const float* transposed, const Tile& tile,
                      int64_t num_rows, int64_t width);
// sums (block, E) += weights (block, kScoreStride) times the tile's rows of `rows` (keys, E); the
// first tile starts the sums.
void add_weighted_rows(float* sums, const float* weights, const float* rows, const Tile& tile,
                       int64_t num_rows, int64_t width);

}  // namespace facet::attention
