// Backward attention over a plan (ops/attention_plan.h). With P recomputed from lse, delta = dout .
// (the part's share of out) and dS = P (dout V' - delta): dq = scale dS K, dk = scale dS' Q, dv =
// P' dout (+ dout for self rows), summed over parts, and dk, dv over the query heads that share a
// key/value head. Overwrites dq (Nq,H*E), dk, dv (Nk,G*E).
//
// Parallel over samples and key/value heads; within one of these everything is added in a fixed
// order.
#include <omp.h>

#include <algorithm>

#include "kernels/cpu/attention_task.h"
#include "kernels/cpu/backend.h"

namespace facet {

using namespace attention;
using Kind = AttentionPart::Kind;

namespace {

struct BackwardScratch {
  BackwardScratch(Carver carver, int64_t num_keys, int64_t width)
      : keys_transposed(carver.take(padded(num_keys) * width)),
        values_transposed(carver.take(padded(num_keys) * width)),
        keys(carver.take(num_keys * padded(width))),
        dkeys(carver.take(num_keys * padded(width))),
        dvalues(carver.take(num_keys * padded(width))),
        queries(carver.take(kQueryBlock * padded(width))),
        dout(carver.take(kQueryBlock * padded(width))),
        dqueries(carver.take(kQueryBlock * padded(width))),
        scores(carver.take(kQueryBlock * kScoreStride)),
        dscores(carver.take(kQueryBlock * kScoreStride)),
        size(carver.used()) {}
  float *keys_transposed, *values_transposed, *keys, *dkeys, *dvalues, *queries, *dout, *dqueries,
      *scores, *dscores;
  int64_t size;
};

// The tile's rows of sums (keys, E) += weights' (block, kScoreStride) times rows (block, E).
void add_to_keys(float* sums, const float* weights, const float* rows, const Tile& tile,
                 const int32_t* first_query, int64_t num_rows, int64_t width) {
  Product product;
  product.c = sums + tile.begin * padded(width);
  product.c_row = padded(width);
  product.a = weights;
  product.a_row = 1;
  product.a_k = kScoreStride;
  product.b = rows;
  product.b_panel = kLanes;
  product.b_row = padded(width);
  product.rows = tile.keys;
  product.columns = width;
  product.k = num_rows;
  product.k_begin = first_query;
  product.mode = Product::Mode::kAdd;
  multiply(product);
}

class Backward {
 public:
  struct Tensors {
    Tensor dq, dk, dv, dout, q, k, v, out, out_part, lse;
  };
  Backward(const AttentionPlan& plan, const Shape& shape, const Tensors& t)
      : plan_(plan),
        shape_(shape),
        dq_(t.dq, shape.width),
        dk_(t.dk, shape.width),
        dv_(t.dv, shape.width),
        dout_(t.dout, shape.width),
        q_(t.q, shape.width),
        k_(t.k, shape.width),
        v_(t.v, shape.width),
        out_(t.out, shape.width),
        out_part_(t.out_part, shape.width),
        lse_(t.lse.f32()) {}

  // One sample in one key/value head and its query heads, in a fixed order.
  void run(const AttentionSample& sample, int64_t kv_head, const BackwardScratch& scratch) const {
    set_self_rows(sample, kv_head);
    for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p)
      run_part(plan_.parts[static_cast<size_t>(p)], kv_head, scratch);
  }

 private:
  // Initialises the gradients before the parts are added: 0, and dv of self rows.
  void set_self_rows(const AttentionSample& sample, int64_t kv_head) const {
    const int64_t head = kv_head * shape_.group(), width = shape_.width;
    for (int64_t i = 0; i < sample.num_query_rows; ++i)
      std::fill_n(dq_.row(sample.query_row_begin + i, head), shape_.group() * width, 0.0f);
    for (int64_t j = 0; j < sample.num_key_rows; ++j) {
      std::fill_n(dk_.row(sample.key_row_begin + j, kv_head), width, 0.0f);
      std::fill_n(dv_.row(sample.key_row_begin + j, kv_head), width, 0.0f);
    }
    for (int64_t n = 0; n < sample.num_self; ++n) {
      const SelfRows& self = plan_.self_rows[static_cast<size_t>(sample.self_begin + n)];
      for (int64_t i = 0; i < self.count; ++i)
        for (int64_t h = 0; h < shape_.group(); ++h)
          add_scaled(dv_.row(self.key + i, kv_head), dout_.row(self.query + i, head + h), width, 1);
    }
  }

  void run_part(const AttentionPart& part, int64_t kv_head, const BackwardScratch& scratch) const {
    const RowRange* key_ranges = plan_.key_ranges.data() + part.key_begin;
    const HeadRows keys = k_.rows(kv_head, key_ranges, part.num_keys);
    gather_transposed(scratch.keys_transposed, keys);
    gather(scratch.keys, keys);
    gather_transposed(scratch.values_transposed, v_.rows(kv_head, key_ranges, part.num_keys));
    const int64_t width = shape_.width, stride = padded(width);
    std::fill_n(scratch.dkeys, part.num_keys * stride, 0.0f);
    std::fill_n(scratch.dvalues, part.num_keys * stride, 0.0f);
    for (int64_t h = 0; h < shape_.group(); ++h)
      for (int64_t i = 0; i < part.queries.count; i += kQueryBlock)
        run_block(
            part, kv_head, h,
            QueryBlock(plan_, part, i, std::min<int64_t>(kQueryBlock, part.queries.count - i)),
            scratch);
    for_listed_rows(key_ranges, 0, part.num_keys, [&](int64_t j, int64_t row) {
      add_scaled(dk_.row(row, kv_head), scratch.dkeys + j * stride, width, 1);
      add_scaled(dv_.row(row, kv_head), scratch.dvalues + j * stride, width, 1);
    });
  }

  void run_block(const AttentionPart& part, int64_t kv_head, int64_t head_of_group,
                 const QueryBlock& block, const BackwardScratch& scratch) const {
    const int64_t head = kv_head * shape_.group() + head_of_group, width = shape_.width;
    gather(scratch.queries, q_.rows(head, &block.rows, block.count));
    gather(scratch.dout, dout_.rows(head, &block.rows, block.count));
    RowStatistics statistics[kQueryBlock];
    for (int64_t i = 0; i < block.count; ++i)
      statistics[i] = row_statistics(part, head, block.row(i), block.visible[i]);
    for (int64_t begin = block.first_tile(); begin < block.num_keys(); begin += kKeyTile)
      run_tile(part, block, Tile(block, begin), statistics, scratch);
    for (int64_t i = 0; i < block.count; ++i)
      add_scaled(dq_.row(block.row(i), head), scratch.dqueries + i * padded(width), width, 1);
  }

  void run_tile(const AttentionPart& part, const QueryBlock& block, const Tile& tile,
                const RowStatistics* statistics, const BackwardScratch& scratch) const {
    const int64_t rows = block.count, width = shape_.width;
    int32_t first_query[kKeyTile];  // per key: the first query that sees it
    for (int64_t j = 0, i = 0; j < tile.keys; ++j) {
      while (tile.visible[i] <= j) ++i;
      first_query[j] = static_cast<int32_t>(i);
    }
    if (part.kind == Kind::kSoftmax)
      multiply_by_tile(scratch.scores, scratch.queries, scratch.keys_transposed, tile, rows, width);
    multiply_by_tile(scratch.dscores, scratch.dout, scratch.values_transposed, tile, rows, width);
    softmax_gradient(scratch.scores, scratch.dscores, rows, tile.keys, tile.visible, tile.hidden,
                     shape_.scale, statistics);
    add_to_keys(scratch.dvalues, scratch.scores, scratch.dout, tile, first_query, rows, width);
    add_to_keys(scratch.dkeys, scratch.dscores, scratch.queries, tile, first_query, rows, width);
    add_weighted_rows(scratch.dqueries, scratch.dscores, scratch.keys, tile, rows, width);
  }

  // delta = dout . (the part's share of out), and what P is recomputed from.
  RowStatistics row_statistics(const AttentionPart& part, int64_t head, int64_t row,
                               int32_t visible) const {
    const int64_t width = shape_.width;
    const float* dout = dout_.row(row, head);
    RowStatistics result;
    if (out_part_.data != nullptr && static_cast<int>(statistic(2, head, row)) == part.slot) {
      result.delta = dot(dout, out_part_.row(row, head), width);
    } else {
      result.delta = dot(dout, out_.row(row, head), width);
      if (out_part_.data != nullptr) result.delta -= dot(dout, out_part_.row(row, head), width);
    }
    if (part.kind == Kind::kMean)
      result.mean = 1 / static_cast<float>(visible);
    else
      result.lse = statistic(part.slot, head, row);
    return result;
  }
  float statistic(int64_t which, int64_t head, int64_t row) const {
    return lse_[(which * shape_.heads + head) * shape_.num_queries + row];
  }

  const AttentionPlan& plan_;
  Shape shape_;
  HeadMatrix dq_, dk_, dv_, dout_, q_, k_, v_, out_, out_part_;
  const float* lse_;
};

}  // namespace

void CpuBackend::do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                       Tensor k, Tensor v, Tensor out, Tensor out_part, Tensor lse,
                                       const Rotation& q_rotation, const Rotation& k_rotation,
                                       const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                                       float scale) {
  const Shape shape = shape_of(q, heads, kv_heads, scale);
  const int64_t num_samples = static_cast<int64_t>(plan.samples.size());
  if (num_samples == 0) return;

  const Backward backward(plan, shape, {dq, dk, dv, dout, q, k, v, out, out_part, lse});
  const int64_t keys = most_keys(plan);
  const int64_t floats = BackwardScratch(Carver(nullptr), keys, shape.width).size;
  float* memory = attention_scratch(floats);
#pragma omp parallel num_threads(threads_) if (worth_threads(q, keys))
  {
    const BackwardScratch scratch(Carver(memory + omp_get_thread_num() * floats), keys,
                                  shape.width);
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t b = 0; b < num_samples; ++b)
      for (int64_t g = 0; g < kv_heads; ++g)
        backward.run(plan.samples[static_cast<size_t>(b)], g, scratch);
  }
  turn_back(dq, dk, q_rotation, k_rotation, heads, kv_heads);
}

}  // namespace facet
