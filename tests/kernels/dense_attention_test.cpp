// What of a plan a library's attention is given.
#include "kernels/cuda/dense_attention.h"

#include <gtest/gtest.h>

#include <string>

#include "base/check.h"

namespace facet::kernel_test {
namespace {

using cuda::dense_attention_of;
using Groups = std::vector<cuda::DenseAttention>;

TEST(DenseAttention, NeighboursOfOneShapeAreTogether) {
  AttentionPlan plan;
  make_full_plan(plan, 3, 5, 7);
  EXPECT_EQ(dense_attention_of(plan), (Groups{{3, 5, 7, false, 0, 0}}));
  make_causal_plan(plan, {0, 4, 8, 12, 14, 18});
  EXPECT_EQ(dense_attention_of(plan),
            (Groups{{3, 4, 4, true, 0, 0}, {1, 2, 2, true, 12, 12}, {1, 4, 4, true, 14, 14}}));
}

// One token sees all and what is before it alike.
TEST(DenseAttention, ASampleWithoutRowsIsLeftOut) {
  AttentionPlan plan;
  make_causal_plan(plan, {0, 1, 1, 4});
  EXPECT_EQ(dense_attention_of(plan), (Groups{{1, 1, 1, false, 0, 0}, {1, 3, 3, true, 1, 1}}));
}

TEST(DenseAttention, OtherPlansAreRefused) {
  const auto refusal = [](const AttentionPlan& plan) -> std::string {
    try {
      dense_attention_of(plan);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return error.what();
    }
    return "";
  };
  AttentionPlan plan, some;
  make_mmca_plan(plan, {0, 3}, {TokenKind::kText, TokenKind::kImage, TokenKind::kText}, {0, 1, 2},
                 MmcaRule::kPublished);
  EXPECT_NE(refusal(plan).find("MMCA"), std::string::npos);
  make_causal_plan(plan, {0, 4});
  keep_queries(some, plan, {2, 3});
  EXPECT_NE(refusal(some).find("all before them"), std::string::npos);
  make_causal_plan(plan, {0, 4});
  AttentionPlan limited;
  limit_to_window(limited, plan, {0, 1, 2, 3}, 3);
  EXPECT_NE(refusal(limited).find("sliding window"), std::string::npos);
  make_full_plan(plan, 1, 4, 4);
  plan.parts[0].num_keys = 3;
  for (int32_t& visible : plan.visible_keys) visible = 3;
  EXPECT_NE(refusal(plan).find("all before them"), std::string::npos);
  make_full_plan(plan, 1, 4, 0);
  EXPECT_NE(refusal(plan).find("lacks queries or keys"), std::string::npos);
}

}  // namespace
}  // namespace facet::kernel_test
