// Forward attention over a plan (ops/attention_plan.h): out (Nq,H*E) = the sum, over the parts that
// a row is in, of P V, plus the row's own v for self rows; P = softmax(scale q k') over the visible
// keys, or their mean. Overwrites out and, for softmax parts, lse (slots,H,Nq); with two slots
// out_part and the slot of what it holds, the third statistic (ops/ops.h).
//
// Parallel over samples, key/value heads and, if those are few, pieces of the query rows. Softmax
// parts run in blocks of kQueryBlock queries over tiles of kKeyTile keys with a running maximum;
// attention_task.h has the rest.
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

// With fewer query rows than this in a part, as in decoding, gathering the keys costs more than it
// saves.
constexpr int64_t kFewQueries = 4;
// Forward tasks per thread, for load balancing.
constexpr int64_t kTasksPerThread = 4;

struct ForwardScratch {
  ForwardScratch(Carver carver, int64_t num_keys, int64_t width)
      : keys_transposed(carver.take(padded(num_keys) * width)),
        values(carver.take(num_keys * padded(width))),
        queries(carver.take(kQueryBlock * padded(width))),
        sums(carver.take(kQueryBlock * padded(width))),
        scores(carver.take(kQueryBlock * kScoreStride)),
        size(carver.used()) {}
  float *keys_transposed, *values, *queries, *sums, *scores;
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

  // Rows [begin, end) of q that belong to the sample, in the query heads of one key/value head.
  void run(const AttentionSample& sample, int64_t kv_head, int64_t begin, int64_t end,
           const ForwardScratch& scratch) const {
    set_self_rows(sample, kv_head, begin, end);
    for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p) {
      const AttentionPart& part = plan_.parts[static_cast<size_t>(p)];
      const int64_t first = std::max<int64_t>(begin, part.queries.first);
      const int64_t last = std::min<int64_t>(end, part.queries.end());
      if (first < last) run_part(part, kv_head, first - part.queries.first, last - first, scratch);
    }
  }

 private:
  // Initialises the output before the parts are added: 0, or the row's own v.
  void set_self_rows(const AttentionSample& sample, int64_t kv_head, int64_t begin,
                     int64_t end) const {
    const int64_t head = kv_head * shape_.group(), width = shape_.group() * shape_.width;
    for (int64_t row = begin; row < end; ++row) {
      if (out_part_.data != nullptr) {
        std::fill_n(out_part_.row(row, head), width, 0.0f);
        for (int64_t h = head; h < head + shape_.group(); ++h) slot_of_part(row, h) = -1;
      }
      const int64_t key = self_key(plan_, sample, row);
      if (key < 0) {
        std::fill_n(out_.row(row, head), width, 0.0f);
        continue;
      }
      for (int64_t h = 0; h < shape_.group(); ++h)
        std::copy_n(v_.row(key, kv_head), shape_.width, out_.row(row, head + h));
    }
  }

  void run_part(const AttentionPart& part, int64_t kv_head, int64_t first, int64_t count,
                const ForwardScratch& scratch) const {
    const QueryBlock all(plan_, part, first, count);
    const RowRange* key_ranges = plan_.key_ranges.data() + part.key_begin;
    const HeadRows keys = k_.rows(kv_head, key_ranges, all.num_keys());
    const HeadRows values = v_.rows(kv_head, key_ranges, all.num_keys());
    if (part.kind == Kind::kMean) return add_means(part, kv_head, all, values, scratch.sums);
    const bool few = part.queries.count < kFewQueries;
    if (!few) {
      gather_transposed(scratch.keys_transposed, keys);
      gather(scratch.values, values);
    }
    for (int64_t h = 0; h < shape_.group(); ++h) {
      const int64_t head = kv_head * shape_.group() + h;
      for (int64_t i = 0; i < count; i += kQueryBlock) {
        const QueryBlock block(plan_, part, first + i, std::min(kQueryBlock, count - i));
        few ? run_few(part, head, block, keys, values, scratch)
            : run_block(part, head, block, scratch);
      }
    }
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
    finish(part, head, block, softmax, scratch.sums);
  }

  // The same with keys and values in place, not gathered.
  void run_few(const AttentionPart& part, int64_t head, const QueryBlock& block,
               const HeadRows& keys, const HeadRows& values, const ForwardScratch& scratch) const {
    const int64_t width = shape_.width, stride = padded(width);
    std::fill_n(scratch.sums, block.count * stride, 0.0f);
    Softmax softmax(block.count);
    for (int64_t begin = block.first_tile(); begin < block.num_keys(); begin += kKeyTile) {
      const Tile tile(block, begin);
      for (int64_t i = 0; i < block.count; ++i)
        keys.for_rows(begin + tile.hidden[i], begin + tile.visible[i],
                      [&](int64_t j, const float* key) {
                        scratch.scores[i * kScoreStride + j - begin] =
                            dot(q_.row(block.row(i), head), key, width);
                      });
      softmax.step(scratch.scores, scratch.sums, tile, block.count, stride, shape_.scale);
      for (int64_t i = 0; i < block.count; ++i)
        values.for_rows(begin + tile.hidden[i], begin + tile.visible[i],
                        [&](int64_t j, const float* value) {
                          add_scaled(scratch.sums + i * stride, value, width,
                                     scratch.scores[i * kScoreStride + j - begin]);
                        });
    }
    finish(part, head, block, softmax, scratch.sums);
  }

  void finish(const AttentionPart& part, int64_t head, const QueryBlock& block,
              const Softmax& softmax, const float* sums) const {
    for (int64_t i = 0; i < block.count; ++i) {
      const int64_t row = block.row(i);
      lse_[(part.slot * shape_.heads + head) * shape_.num_queries + row] = softmax.lse(i);
      add_output(part, row, head, sums + i * padded(shape_.width), 1 / softmax.sum[i]);
    }
  }

  // The mean over a growing prefix of the keys is a running sum.
  void add_means(const AttentionPart& part, int64_t kv_head, const QueryBlock& block,
                 const HeadRows& values, float* sum) const {
    std::fill_n(sum, shape_.width, 0.0f);
    int64_t seen = 0;
    for (int64_t i = 0; i < block.count; ++i) {
      values.for_rows(seen, block.visible[i], [&](int64_t, const float* value) {
        add_scaled(sum, value, shape_.width, 1);
      });
      seen = block.visible[i];
      for (int64_t h = 0; h < shape_.group(); ++h)
        add_output(part, block.row(i), kv_head * shape_.group() + h, sum,
                   1 / static_cast<float>(block.visible[i]));
    }
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
  HeadMatrix out_, out_part_, q_, k_, v_;
  float* lse_;
};

}  // namespace

void CpuBackend::do_attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                      Tensor v, const AttentionPlan& plan, int64_t heads,
                                      int64_t kv_heads, float scale) {
  const Shape shape = shape_of(q, heads, kv_heads, scale);
  const int64_t num_samples = static_cast<int64_t>(plan.samples.size());
  if (num_samples == 0) return;

  const Forward forward(plan, shape, out, lse, out_part, q, k, v);
  const int64_t keys = most_keys(plan);
  const int64_t floats = ForwardScratch(Carver(nullptr), keys, shape.width).size;
  float* memory = attention_scratch(floats);
  // If samples and heads are few, query rows are split among tasks too.
  const int64_t pieces =
      std::max<int64_t>(1, kTasksPerThread * threads_ / (num_samples * kv_heads));
#pragma omp parallel num_threads(threads_) if (worth_threads(q, keys))
  {
    const ForwardScratch scratch(Carver(memory + omp_get_thread_num() * floats), keys, shape.width);
#pragma omp for collapse(3) schedule(dynamic, 1)
    for (int64_t b = 0; b < num_samples; ++b) {
      for (int64_t piece = pieces - 1; piece >= 0; --piece) {
        for (int64_t g = 0; g < kv_heads; ++g) {
          const AttentionSample& sample = plan.samples[static_cast<size_t>(b)];
          const int64_t step = std::max(kQueryBlock, (sample.num_query_rows + pieces - 1) / pieces);
          const int64_t begin = std::min(piece * step, sample.num_query_rows);
          const int64_t end = std::min(begin + step, sample.num_query_rows);
          forward.run(sample, g, sample.query_row_begin + begin, sample.query_row_begin + end,
                      scratch);
        }
      }
    }
  }
}

}  // namespace facet
