#include "kernels/cuda/dense_attention.h"

#include "base/check.h"

namespace facet::cuda {
namespace {

// Are these count numbers first, first + 1, ...?
bool are_consecutive(const std::vector<int32_t>& numbers, int64_t begin, int64_t count,
                     int64_t first) {
  for (int64_t i = 0; i < count; ++i)
    if (numbers[static_cast<size_t>(begin + i)] != first + i) return false;
  return true;
}

bool see_all(const AttentionPlan& plan, const AttentionPart& part) {
  for (int64_t i = 0; i < part.num_queries; ++i)
    if (plan.visible_keys[static_cast<size_t>(part.query_begin + i)] != part.num_keys) return false;
  return true;
}

// One softmax of all its queries over all its keys, or over those up to itself.
bool is_dense(const AttentionPlan& plan, const AttentionSample& sample, const AttentionPart& part) {
  return sample.num_parts == 1 && sample.num_self == 0 &&
         part.kind == AttentionPart::Kind::kSoftmax && part.num_queries == sample.num_query_rows &&
         part.num_keys == sample.num_key_rows &&
         are_consecutive(plan.query_rows, part.query_begin, part.num_queries,
                         sample.query_row_begin) &&
         are_consecutive(plan.key_rows, part.key_begin, part.num_keys, sample.key_row_begin);
}

DenseAttention dense(const AttentionPlan& plan, const AttentionSample& sample) {
  const auto& part = plan.parts[static_cast<size_t>(sample.part_begin)];
  const bool all = see_all(plan, part);
  CHECK(is_dense(plan, sample, part) &&
            (all || (part.num_queries == part.num_keys &&
                     are_consecutive(plan.visible_keys, part.query_begin, part.num_queries, 1))),
        ExitCode::kConfig,
        "--attention cudnn takes samples whose tokens see all others or all before them; these do "
        "not: give --attention facet");
  return {1, part.num_queries, part.num_keys, !all, sample.query_row_begin, sample.key_row_begin};
}

// Does the next sample continue the group?
bool continues(const DenseAttention& group, const DenseAttention& next) {
  return next.queries == group.queries && next.keys == group.keys && next.causal == group.causal &&
         next.query_row == group.query_row + group.samples * group.queries &&
         next.key_row == group.key_row + group.samples * group.keys;
}

}  // namespace

std::vector<DenseAttention> dense_attention_of(const AttentionPlan& plan) {
  CHECK(plan.num_slots == 1, ExitCode::kConfig,
        "--attention cudnn cannot attend to images and text apart (MMCA): give --attention facet");
  CHECK(plan.hidden_keys.empty(), ExitCode::kConfig,
        "--attention cudnn has no sliding window, and the decoder has one that is shorter than a "
        "sample: give --attention facet");
  std::vector<DenseAttention> groups;
  for (const AttentionSample& sample : plan.samples) {
    if (sample.num_query_rows == 0 && sample.num_key_rows == 0) continue;
    CHECK(sample.num_parts > 0, ExitCode::kConfig,
          "--attention cudnn takes no sample that lacks queries or keys");
    const DenseAttention next = dense(plan, sample);
    if (!groups.empty() && continues(groups.back(), next))
      ++groups.back().samples;
    else
      groups.push_back(next);
  }
  return groups;
}

}  // namespace facet::cuda
