#include "kernels/cuda/dense_attention.h"

#include "base/check.h"

namespace facet::cuda {
namespace {

// Does query i of the part see `first` + i * `step` keys?
bool see(const AttentionPlan& plan, const AttentionPart& part, int64_t first, int64_t step) {
  for (int64_t i = 0; i < part.queries.count; ++i)
    if (plan.visible_keys[static_cast<size_t>(part.visible_begin + i)] != first + i * step)
      return false;
  return true;
}

// One softmax of all queries of the sample over its keys, all or from the first on.
bool is_dense(const AttentionPlan& plan, const AttentionSample& sample, const AttentionPart& part) {
  const RowRange& keys = plan.key_ranges[static_cast<size_t>(part.key_begin)];
  return sample.num_parts == 1 && sample.num_self == 0 &&
         part.kind == AttentionPart::Kind::kSoftmax &&
         part.queries.first == sample.query_row_begin &&
         part.queries.count == sample.num_query_rows && keys.first == sample.key_row_begin &&
         part.num_keys == sample.num_key_rows && keys.count >= part.num_keys;
}

DenseAttention dense(const AttentionPlan& plan, const AttentionSample& sample) {
  const auto& part = plan.parts[static_cast<size_t>(sample.part_begin)];
  const bool all = see(plan, part, part.num_keys, 0);
  CHECK(is_dense(plan, sample, part) &&
            (all || (part.queries.count == part.num_keys && see(plan, part, 1, 1))),
        ExitCode::kConfig,
        "--attention cudnn takes samples whose tokens see all others or all before them; these do "
        "not: give --attention facet");
  return {1, part.queries.count, part.num_keys, !all, sample.query_row_begin, sample.key_row_begin};
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
