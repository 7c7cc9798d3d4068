// What GPUs can do at most, beside the figures that NVIDIA gives for them.
#include "train/peak_flops.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(PeakFlops, AreThoseOfTheDataSheets) {
  EXPECT_NEAR(peak_flops({8, 0, 108, 1.41e9}, DType::kBF16), 312e12, 1e12);  // A100
  EXPECT_NEAR(peak_flops({8, 0, 108, 1.41e9}, DType::kF32), 19.5e12, 0.1e12);
  EXPECT_NEAR(peak_flops({9, 0, 132, 1.83e9}, DType::kF16), 989.4e12, 1e12);  // H100 SXM
  EXPECT_NEAR(peak_flops({9, 0, 132, 1.98e9}, DType::kF32), 66.9e12, 0.1e12);
  EXPECT_NEAR(peak_flops({8, 9, 142, 2.49e9}, DType::kBF16), 362e12, 1e12);  // L40S
}

TEST(PeakFlops, AreNotGuessed) { EXPECT_EQ(peak_flops({99, 0, 100, 1e9}, DType::kBF16), 0); }

}  // namespace
}  // namespace facet
