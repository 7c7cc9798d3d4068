#include "train/run_setup.h"

#include <gtest/gtest.h>

#include "tests/io/temporary_directory.h"

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

TEST(RunSetup, BucketsAreLargeAndOverlappedOnGpusUnlessASizeIsGiven) {
  const auto reduction = [](const std::string& device, int64_t size) {
    Options options;
    options.device = device;
    options.reduce_bucket_size = size;
    const ReductionOptions chosen = engine_options(options).reduction;
    return std::pair(chosen.bucket_elements, chosen.overlap);
  };
  EXPECT_EQ(reduction("cpu", 0), std::pair(int64_t{2'000'000}, Overlap::kNo));
  EXPECT_EQ(reduction("cuda", 0), std::pair(int64_t{16'000'000}, Overlap::kYes));
  EXPECT_EQ(reduction("cuda", 3000), std::pair(int64_t{3000}, Overlap::kNo));
}

// Of what a killed run has left the last whole export comes back, the rest goes; a user's files
// stay.
TEST(RunSetup, TidiesWhatRunsMakeAndNothingElse) {
  const TemporaryDirectory out;
  out.put("epoch-1.replaced-4711/file", "whole");
  for (const char* name :
       {"epoch-2.partial-7/file", "best.partial-7/file", "options.cfg.partial-7",
        "run.json.partial-7", "loss_curve.svg.partial-7", "thesis.partial-2", "a.replaced-3"})
    out.put(name, "half");
  tidy_output_directory(out.path());
  EXPECT_TRUE(std::filesystem::exists(out / "epoch-1/file"));
  for (const char* name : {"thesis.partial-2", "a.replaced-3"})
    EXPECT_TRUE(std::filesystem::exists(out / name)) << name;
  int64_t left = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(out.path())) ++left;
  EXPECT_EQ(left, 3);
}

}  // namespace
}  // namespace facet
