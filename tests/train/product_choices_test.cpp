#include "train/product_choices.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace facet {
namespace {

TEST(ProductChoices, TheFirstRankThatHasAChoiceDecides) {
  const std::vector<std::string> of_ranks = {"", "A\tp\t128\t01\nA\tp\t256\t02\n",
                                             "A\tp\t128\t03\nA\tq\t128\t04\nB\tp\t128\t05\n"};
  EXPECT_EQ(first_choices(of_ranks),
            "A\tp\t128\t01\nA\tp\t256\t02\nA\tq\t128\t04\nB\tp\t128\t05\n");
  EXPECT_EQ(first_choices({}), "");
}

// A run that goes on times nothing: what was not timed before keeps to what it was.
TEST(ProductChoices, WhatTheCheckpointHasNoChoicesOfIsNamed) {
  const std::string algorithms = "A\tp\t128\t01\n", lora = "A\tforward\t128\tfused\n";
  Options options;
  options.lora_products = "timed";
  ASSERT_EQ(without_choices(options, algorithms).size(), 1U);
  EXPECT_EQ(without_choices(options, algorithms)[0].find("--lora_products timed: "), 0U);
  EXPECT_TRUE(without_choices(options, algorithms + lora).empty());
  options.product_algorithms = "timed";
  EXPECT_TRUE(without_choices(options, algorithms + lora).empty());
  ASSERT_EQ(without_choices(options, lora).size(), 1U);
  EXPECT_EQ(without_choices(options, lora)[0].find("--product_algorithms timed: "), 0U);
}

}  // namespace
}  // namespace facet
