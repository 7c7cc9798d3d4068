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

}  // namespace
}  // namespace facet
