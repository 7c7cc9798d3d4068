// One run on 1, 2, 3 and 4 ranks at every stage, in every precision: equal bits at all stages of as
// many ranks, and close to one rank's whatever their number. Jobs of different sizes run one after
// the other. Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tests/comm/first_ranks.h"
#include "tests/zero/stage_rig.h"

namespace facet {
namespace {

using namespace stage_rig;

constexpr int kSamples = 12;  // of a micro-batch of all ranks: 1, 2, 3 and 4 divide it
constexpr int64_t kAccumulation = 3;

// Sample `i` of a global micro-batch: the first half has images, so that the last rank, of two and
// more, never has one. The second sample has no label.
void add_numbered_sample(MicroBatch& batch, const VlmConfig& config, int i, int64_t number) {
  const std::string name = fmt::format("sample {} batch {}", i, number);
  const auto word = static_cast<int32_t>(3 + (i * 7 + number * 5) % 40);
  if (i >= kSamples / 2)
    add_sample(batch, config, {1, word, 40, 41, 2, 6, word, 2}, static_cast<size_t>(2 + i % 3),
               name);
  else if (i % 2 == 0)
    add_sample(batch, config, {1, 7, kImage, word, 12, kImage, 5, 9, word, 2}, 6, name);
  else
    add_sample(batch, config, {1, word, kImage, 17, 2}, i == 1 ? 5 : 2, name);
}

MicroBatch share_of(const VlmConfig& config, int rank, int ranks, int64_t number) {
  MicroBatch batch;
  const int share = kSamples / ranks;
  for (int i = rank * share; i < (rank + 1) * share; ++i)
    add_numbered_sample(batch, config, i, number);
  return batch;
}

// |a - b| / |b|, L2 over all elements.
template <typename T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  return vision_rig::relative_error(a, std::vector<double>(b.begin(), b.end()));
}

// An array by itself may have noise only, as a gradient that is zero by nature: the norm is that of
// all parameters together.
void expect_close(const Result& a, const Result& b, double tolerance, const std::string& what) {
  EXPECT_LT(distance(a.losses, b.losses), tolerance) << what;
  EXPECT_LT(distance(a.norms, b.norms), tolerance) << what;
  EXPECT_LT(distance(a.values, b.values), tolerance) << what;
  EXPECT_LT(distance(a.exp_avg, b.exp_avg), tolerance) << what;
  EXPECT_LT(distance(a.exp_avg_sq, b.exp_avg_sq), tolerance) << what;
}

struct Kind {
  bool all_trained;  // or LoRA
  DType dtype;
  double tolerance;  // between rank counts
};

class StagesRanks : public testing::TestWithParam<Kind> {
 protected:
  static Result train(MPI_Comm comm, EngineOptions options, bool recompute) {
    const bool all_trained = GetParam().all_trained;
    VlmConfig config = all_trained ? full_config() : lora_config();
    config.recompute = recompute;
    options.compute_dtype = GetParam().dtype;
    StageRig rig(config, all_trained, options, comm, share_of);
    Result result;
    rig.train(3, kAccumulation, result);
    rig.collect(result);
    return result;
  }
};

TEST_P(StagesRanks, EqualBitsAtAllStagesAndCloseOnOtherRanks) {
  std::optional<Result> alone;
  const int all = Communicator(MPI_COMM_WORLD).size();
  for (const int ranks : all == 4 ? std::vector{1, 2, 3, 4} : std::vector{1, all}) {
    const FirstRanks group(ranks);
    if (!group.member()) continue;
    const Result every = train(group.comm(), options_of(0, true), false);
    const Result once = train(group.comm(), options_of(0, false), false);
    EXPECT_LT(*std::max_element(every.clip_factors.begin(), every.clip_factors.end()), 1);
    for (const bool recompute : {false, true}) {
      const std::string what = fmt::format("{} ranks, recompute {}, stage ", ranks, recompute);
      for (int64_t stage = 0; stage < 4; ++stage)
        expect_same(train(group.comm(), options_of(stage, true), recompute), every,
                    what + std::to_string(stage));
      expect_same(train(group.comm(), options_of(1, false), recompute), once, what + "1, once");
    }
    if (!alone) alone = every;
    expect_close(every, *alone, GetParam().tolerance, fmt::format("{} ranks", ranks));
    expect_close(once, *alone, GetParam().tolerance, fmt::format("{} ranks, once", ranks));
  }
}

// In 16 bits a value on the edge between two numbers may fall to the other side.
INSTANTIATE_TEST_SUITE_P(
    FullAndLora, StagesRanks,
    testing::Values(Kind{true, DType::kF32, 1e-5}, Kind{false, DType::kF32, 1e-5},
                    Kind{true, DType::kBF16, 2e-2}, Kind{false, DType::kF16, 5e-3}),
    [](const auto& info) {
      return std::string(info.param.all_trained ? "Full" : "Lora") + name_of(info.param.dtype);
    });

}  // namespace
}  // namespace facet
