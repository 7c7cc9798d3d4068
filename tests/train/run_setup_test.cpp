#include "train/run_setup.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(RunSetup, TheEngineReducesAsTheOptionsSay) {
  Options options;
  options.reduce_bucket_size = 500'000'000;
  options.overlap_comm = true;
  options.communication_data_type = "bf16";
  const EngineOptions engine = engine_options(options);
  EXPECT_EQ(engine.reduction.bucket_elements, 500'000'000);
  EXPECT_EQ(engine.reduction.overlap, Overlap::kYes);
  EXPECT_EQ(engine.reduction.dtype, DType::kBF16);
}

}  // namespace
}  // namespace facet
