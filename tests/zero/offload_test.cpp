// The optimizer on the host, at every stage and in every precision, and at stage 3 the slices. Run
// with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include "tests/zero/stage_rig.h"

namespace facet {
namespace {

using namespace stage_rig;

// Chunks of 50 elements cut most runs, and not into equal parts.
TEST(Offload, TheBitsAreThoseWithout) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (int64_t stage = 0; stage < 4; ++stage) {
      EngineOptions options = options_of(stage, true, 30);
      options.compute_dtype = dtype;
      const Result expected = run(lora_config(), false, options, 1);
      options.offload = {.optimizer = true, .chunk_elements = 50};
      expect_same(run(lora_config(), false, options, 1), expected,
                  fmt::format("stage {} in {}", stage, name_of(dtype)));
    }
}

// Units come ahead of their use or when it begins, also those of which a part is on every rank, and
// every step changes what comes.
TEST(Offload, TheBitsOfSlicesOnTheHostAreThoseWithout) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t threshold : {0, 30, 200})
      for (const int64_t prefetched : {0, 12000}) {
        EngineOptions options = options_of(3, true, threshold);
        options.compute_dtype = dtype;
        options.stage3.residency = {prefetched, 1000000};
        const Result expected = run(lora_config(), false, options, 2);
        options.offload = {.optimizer = true, .params = true, .chunk_elements = 50};
        expect_same(
            run(lora_config(), false, options, 2), expected,
            fmt::format("{}, threshold {}, prefetched {}", name_of(dtype), threshold, prefetched));
      }
}

// The layers see what was loaded, not what was there.
TEST(Offload, ALoadedStateIsSteppedOn) {
  for (const DType dtype : {DType::kF32, DType::kF16})
    for (int64_t stage = 0; stage < 4; ++stage) {
      EngineOptions options = options_of(stage, true);
      options.compute_dtype = dtype;
      StageRig without(lora_config(), false, options);
      options.offload = {.optimizer = true, .params = stage == 3, .chunk_elements = 50};
      StageRig with(lora_config(), false, options);
      Result ignored, expected, result;
      without.train(2, 1, ignored);
      const std::vector<StateRange> saved = without.engine->owned_state(),
                                    loaded = with.engine->owned_state();
      ASSERT_EQ(saved.size(), loaded.size());
      for (size_t i = 0; i < saved.size(); ++i) {
        std::copy_n(saved[i].value, saved[i].count, loaded[i].value);
        std::copy_n(saved[i].exp_avg, saved[i].count, loaded[i].exp_avg);
        std::copy_n(saved[i].exp_avg_sq, saved[i].count, loaded[i].exp_avg_sq);
      }
      with.engine->publish_state();
      with.engine->set_optimizer_steps(2);
      without.train(1, 1, expected);
      with.train(1, 1, result);
      without.collect(expected);
      with.collect(result);
      expect_same(result, expected, fmt::format("stage {} in {}", stage, name_of(dtype)));
    }
}

}  // namespace
}  // namespace facet
