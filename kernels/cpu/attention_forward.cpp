// Forward attention over a plan (ops/attention_plan.h): out (Nq,H*E) = the sum, over the parts that
// a row is in, of P V, plus the row's own v for self rows; P = softmax(scale q k') over the visible
// keys, or their mean. Overwrites out and, for softmax parts, lse (slots,H,Nq); with two slots
// out_part and the slot of what it holds, the third statistic (ops/ops.h).
//
// Parallel over samples, key/value heads and, if those are few, pieces of the query rows or heads.
// Softmax parts run in blocks of kQueryBlock queries over tiles of kKeyTile keys with a running
// maximum; attention_task.h has the rest. Parts of few queries, as in decoding, read each key and
// value once for all query heads that use it, where it lies; scratch does not grow with the cache.
//
// k and v may be of 16 bits: rows are widened where they are gathered or read.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_task.h"
#include "kernels/cpu/backend.h"

namespace facet {

using namespace attention;
using Kind = AttentionPart::Kind;

namespace {

// With fewer query rows than this in a part gathering the keys costs more than it saves.
constexpr int64_t kFewQueries = 4;
// Forward tasks per thread, for load balancing, and those of samples of few rows.
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kHeadTasksPerThread = 2;

bool has_few_queries(const AttentionPart& part) { return part.queries.count < kFewQueries; }

int64_t most_gathered_keys(const AttentionPlan& plan) {
  int64_t most = 1;
  for (const AttentionPart& part : plan.parts)
    if (!has_few_queries(part)) most = std::max(most, part.num_keys);
  return most;
}

struct ForwardScratch {
  ForwardScratch(Carver carver, int64_t num_keys, int64_t width)
      : keys_transposed(carver.take(padded(num_keys) * width)),
        values(carver.take(num_keys * padded(width))),
        queries(carver.take(kQueryBlock * padded(width))),
        sums(carver.take(kQueryBlock * padded(width))),
        scores(carver.take(kQueryBlock * kScoreStride)),
        wide(carver.take(kLanes * padded(width))),
        size(carver.used()) {}
  float *keys_transposed, *values, *queries, *sums, *scores, *wide;
  int64_t size;
};

// The running maximum and sum of a block's softmax rows.
struct Softmax {
  explicit Softmax(int64_t rows) {
    std::fill_n(max, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, rows, 0.0f);
  }
  // Turns scores into weights; rescales the earlier sums (rows, E) to the new maximum.
  void step(float* scores, float* sums, const Tile& tile, int64_t rows, int64_t width,
            float scale) {
    softmax_step(scores, rows, tile.keys, tile.visible, tile.hidden, scale, max, sum, factor);
    if (tile.is_first) return;
    for (int64_t i = 0; i < rows; ++i)
      if (factor[i] != 1)
        for (int64_t c = 0; c < width; ++c) sums[i * width + c] *= factor[i];
  }
  float lse(int64_t row) const { return max[row] + std::log(sum[row]); }

  float max[kQueryBlock], sum[kQueryBlock], factor[kQueryBlock];
};

class Forward {
 public:
  Forward(const AttentionPlan& plan, const Shape& shape, Tensor out, Tensor lse, Tensor out_part,
          Tensor q, Tensor k, Tensor v)
      : plan_(plan),
        shape_(shape),
        out_(out, shape.width),
        out_part_(out_part, shape.width),
        q_(q, shape.width),
        k_(k, shape.width),
        v_(v, shape.width),
        lse_(lse.f32()) {}

  // Rows [begin, end) of q that belong to the sample.
  void run(const AttentionSample& sample, const Heads& heads, int64_t begin, int64_t end,
           const ForwardScratch& scratch) const {
    set_self_rows(sample, heads, begin, end, scratch.wide);
    for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p) {
      const AttentionPart& part = plan_.parts[static_cast<size_t>(p)];
      const int64_t first = std::max<int64_t>(begin, part.queries.first);
      const int64_t last = std::min<int64_t>(end, part.queries.end());
      if (first < last) run_part(part, heads, first - part.queries.first, last - first, scratch);
    }
  }

 private:
  // Initialises the output before the parts are added: 0, or the row's own v.
  void set_self_rows(const AttentionSample& sample, const Heads& heads, int64_t begin, int64_t end,
                     float* wide) const {
    const int64_t width = heads.count() * shape_.width;
    for (int64_t row = begin; row < end; ++row) {
      if (out_part_.data != nullptr) {
        std::fill_n(out_part_.row(row, heads.first), width, 0.0f);
        for (int64_t h = heads.first; h < heads.end; ++h) slot_of_part(row, h) = -1;
      }
      const int64_t key = self_key(plan_, sample, row);
      if (key < 0) {
        std::fill_n(out_.row(row, heads.first), width, 0.0f);
        continue;
      }
      const RowRange own{static_cast<int32_t>(key), 1};
      for (int64_t h = heads.first; h < heads.end; ++h)
        v_.rows(shape_.kv_head(h), 1, &own, 1, wide)
            .for_rows(0, 1, [&](int64_t, const float* value) {
              std::copy_n(value, shape_.width, out_.row(row, h));
            });
    }
  }

  void run_part(const AttentionPart& part, const Heads& heads, int64_t first, int64_t count,
                const ForwardScratch& scratch) const {
    const QueryBlock all(plan_, part, first, count);
    if (part.kind == Kind::kMean) return add_means(part, heads, all, scratch);
    if (has_few_queries(part)) {
      const int64_t together = kQueryBlock / count;
      for (int64_t h = heads.first; h < heads.end; h += together)
        with_type(v_.dtype(), [&](auto zero) {
          run_few<decltype(zero)>(part, {h, std::min(h + together, heads.end)}, all, scratch);
        });
      return;
    }
    for_groups(heads, [&](const Heads& group) {
      gather_transposed(scratch.keys_transposed, rows_of(k_, part, group, all, scratch));
      gather(scratch.values, rows_of(v_, part, group, all, scratch));
      for (int64_t head = group.first; head < group.end; ++head)
        for (int64_t i = 0; i < count; i += kQueryBlock)
          run_block(part, head,
                    QueryBlock(plan_, part, first + i, std::min(kQueryBlock, count - i)), scratch);
    });
  }

  // body(heads) for those of each key/value head.
  template <typename Body>
  void for_groups(const Heads& heads, const Body& body) const {
    for (Heads group{heads.first, 0}; group.first < heads.end; group.first = group.end) {
      group.end = std::min(heads.end, (shape_.kv_head(group.first) + 1) * shape_.group());
      body(group);
    }
  }

  // The keys, or values, of these query heads, as many as the block sees.
  HeadRows rows_of(const KeyMatrix& matrix, const AttentionPart& part, const Heads& heads,
                   const QueryBlock& block, const ForwardScratch& scratch) const {
    const int64_t first = shape_.kv_head(heads.first), last = shape_.kv_head(heads.end - 1);
    return matrix.rows(first, last + 1 - first, plan_.key_ranges.data() + part.key_begin,
                       block.num_keys(), scratch.wide);
  }

  void run_block(const AttentionPart& part, int64_t head, const QueryBlock& block,
                 const ForwardScratch& scratch) const {
    const int64_t width = shape_.width;
    gather(scratch.queries, q_.rows(head, &block.rows, block.count));
    Softmax softmax(block.count);
    for (int64_t begin = block.first_tile(); begin < block.num_keys(); begin += kKeyTile) {
      const Tile tile(block, begin);
      multiply_by_tile(scratch.scores, scratch.queries, scratch.keys_transposed, tile, block.count,
                       width);
      softmax.step(scratch.scores, scratch.sums, tile, block.count, padded(width), shape_.scale);
      add_weighted_rows(scratch.sums, scratch.scores, scratch.values, tile, block.count, width);
    }
    for (int64_t i = 0; i < block.count; ++i)
      finish(part, head, block.row(i), softmax, i, scratch.sums);
  }

  // The same with keys and values in place, not gathered, in all of the heads together: row i in
  // their h-th head is row i * heads.count() + h of the scores. T: of keys and values.
  template <typename T>
  void run_few(const AttentionPart& part, const Heads& heads, const QueryBlock& block,
               const ForwardScratch& scratch) const {
    const int64_t width = shape_.width, stride = padded(width), rows = block.count * heads.count();
    const HeadRows keys = rows_of(k_, part, heads, block, scratch),
                   values = rows_of(v_, part, heads, block, scratch);
    std::fill_n(scratch.sums, rows * stride, 0.0f);
    Softmax softmax(rows);
    for (int64_t begin = block.first_tile(); begin < block.num_keys(); begin += kKeyTile) {
      const Tile tile = Tile(block, begin).repeated(block.count, heads.count());
      for_seen<T>(keys, tile, heads, rows, [&](int64_t r, int64_t key, const Seen<T>& seen) {
        const float* q = q_.row(block.row(r / heads.count()), heads.first + r % heads.count());
        dot_rows(scratch.scores + r * kScoreStride + key, q, seen.rows, seen.count, width);
      });
      softmax.step(scratch.scores, scratch.sums, tile, rows, stride, shape_.scale);
      for_seen<T>(values, tile, heads, rows, [&](int64_t r, int64_t key, const Seen<T>& seen) {
        add_scaled_rows(scratch.sums + r * stride, seen.rows,
                        scratch.scores + r * kScoreStride + key, seen.count, width);
      });
    }
    for (int64_t r = 0; r < rows; ++r)
      finish(part, heads.first + r % heads.count(), block.row(r / heads.count()), softmax, r,
             scratch.sums);
  }

  // Some rows of keys or values, in one head.
  template <typename T>
  struct Seen {
    const T* rows[kLanes];
    int64_t count;
  };
  // body(row of scores, first key in the tile, keys) for all that the rows see of a tile.
  template <typename T, typename Body>
  void for_seen(const HeadRows& keys, const Tile& tile, const Heads& heads, int64_t rows,
                const Body& body) const {
    const int64_t kv_first = shape_.kv_head(heads.first);
    keys.for_groups<T>(tile.begin + tile.hidden[0], tile.begin + tile.visible[rows - 1],
                       [&](int64_t first, const T* const* group, int64_t count) {
                         const int64_t at = first - tile.begin;
                         for (int64_t r = 0; r < rows; ++r) {
                           const int64_t begin = std::max<int64_t>(tile.hidden[r] - at, 0);
                           const int64_t end = std::min<int64_t>(tile.visible[r] - at, count);
                           if (begin >= end) continue;
                           const int64_t head =
                               shape_.kv_head(heads.first + r % heads.count()) - kv_first;
                           Seen<T> seen;
                           seen.count = end - begin;
                           for (int64_t j = begin; j < end; ++j)
                             seen.rows[j - begin] = group[j] + head * shape_.width;
                           body(r, at + begin, seen);
                         }
                       });
  }

  // Row `row` of q, which is row i of the sums.
  void finish(const AttentionPart& part, int64_t head, int64_t row, const Softmax& softmax,
              int64_t i, const float* sums) const {
    lse_[(part.slot * shape_.heads + head) * shape_.num_queries + row] = softmax.lse(i);
    add_output(part, row, head, sums + i * padded(shape_.width), 1 / softmax.sum[i]);
  }

  // The mean over a growing prefix of the keys is a running sum.
  void add_means(const AttentionPart& part, const Heads& heads, const QueryBlock& block,
                 const ForwardScratch& scratch) const {
    float* sum = scratch.sums;
    for_groups(heads, [&](const Heads& group) {
      const HeadRows values = rows_of(v_, part, group, block, scratch);
      std::fill_n(sum, shape_.width, 0.0f);
      int64_t seen = 0;
      for (int64_t i = 0; i < block.count; ++i) {
        values.for_rows(seen, block.visible[i], [&](int64_t, const float* value) {
          add_scaled(sum, value, shape_.width, 1);
        });
        seen = block.visible[i];
        for (int64_t head = group.first; head < group.end; ++head)
          add_output(part, block.row(i), head, sum, 1 / static_cast<float>(block.visible[i]));
      }
    });
  }

  void add_output(const AttentionPart& part, int64_t row, int64_t head, const float* sums,
                  float factor) const {
    add_scaled(out_.row(row, head), sums, shape_.width, factor);
    if (out_part_.data != nullptr) keep_smaller(part, row, head, sums, factor);
  }

  // Leaves the part in out_part if it is the row's first or smaller than the one before.
  void keep_smaller(const AttentionPart& part, int64_t row, int64_t head, const float* sums,
                    float factor) const {
    float* kept = out_part_.row(row, head);
    const float size = factor * factor * dot(sums, sums, shape_.width);
    if (slot_of_part(row, head) >= 0 && size >= dot(kept, kept, shape_.width)) return;
    slot_of_part(row, head) = static_cast<float>(part.slot);
    std::fill_n(kept, shape_.width, 0.0f);
    add_scaled(kept, sums, shape_.width, factor);
  }
  float& slot_of_part(int64_t row, int64_t head) const {
    return lse_[(plan_.num_slots * shape_.heads + head) * shape_.num_queries + row];
  }

  const AttentionPlan& plan_;
  Shape shape_;
  HeadMatrix out_, out_part_, q_;
  KeyMatrix k_, v_;
  float* lse_;
};

// A task is one key/value head of a sample and, if samples and heads are few, a piece of the query
// rows. Where a sample has few rows, it is a piece of the heads, of several key/value heads, so
// that rows of keys are read in long pieces.
class Tasks {
 public:
  Tasks(const AttentionPlan& plan, const Shape& shape, int64_t threads)
      : plan_(plan),
        shape_(shape),
        pieces_(pieces(kTasksPerThread * threads, shape.kv_heads)),
        head_pieces_(std::min(pieces(kHeadTasksPerThread * threads, 1), shape.heads)) {}

  int64_t num_samples() const { return static_cast<int64_t>(plan_.samples.size()); }
  int64_t of_a_sample() const { return std::max(pieces_ * shape_.kv_heads, head_pieces_); }

  void run(const Forward& forward, int64_t sample_index, int64_t task,
           const ForwardScratch& scratch) const {
    const AttentionSample& sample = plan_.samples[static_cast<size_t>(sample_index)];
    const int64_t rows = sample.num_query_rows, first = sample.query_row_begin;
    if (rows < kFewQueries) {
      if (task < head_pieces_)
        forward.run(sample,
                    {shape_.heads * task / head_pieces_, shape_.heads * (task + 1) / head_pieces_},
                    first, first + rows, scratch);
      return;
    }
    const int64_t piece = pieces_ - 1 - task / shape_.kv_heads;  // the longest first
    if (piece < 0) return;
    const int64_t step = std::max(kQueryBlock, (rows + pieces_ - 1) / pieces_);
    const int64_t begin = std::min(piece * step, rows), end = std::min(begin + step, rows);
    const int64_t head = task % shape_.kv_heads * shape_.group();
    forward.run(sample, {head, head + shape_.group()}, first + begin, first + end, scratch);
  }

 private:
  // Of a sample, for so many tasks in all where samples have that many each.
  int64_t pieces(int64_t tasks, int64_t each) const {
    return std::max<int64_t>(1, tasks / (num_samples() * each));
  }

  const AttentionPlan& plan_;
  const Shape& shape_;
  int64_t pieces_, head_pieces_;
};

}  // namespace

void CpuBackend::do_attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                      Tensor v, const AttentionPlan& plan, int64_t heads,
                                      int64_t kv_heads, float scale) {
  const Shape shape = shape_of(q, heads, kv_heads, scale);
  if (plan.samples.empty()) return;

  const Forward forward(plan, shape, out, lse, out_part, q, k, v);
  const int64_t gathered = most_gathered_keys(plan);
  const int64_t floats = ForwardScratch(Carver(nullptr), gathered, shape.width).size;
  float* memory = attention_scratch(floats);
  const Tasks tasks(plan, shape, threads_);
#pragma omp parallel num_threads(threads_) if (worth_threads(q, most_keys(plan)))
  {
    const ForwardScratch scratch(Carver(memory + omp_get_thread_num() * floats), gathered,
                                 shape.width);
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t b = 0; b < tasks.num_samples(); ++b)
      for (int64_t task = 0; task < tasks.of_a_sample(); ++task)
        tasks.run(forward, b, task, scratch);
  }
}

}  // namespace facet
