// Rank 0 reads all values while the others wait for what it wants; in between all of them can meet.
#include <gtest/gtest.h>

#include <stdexcept>

#include "stage_rig.h"

namespace facet {
namespace {

using namespace stage_rig;

struct Way {
  int64_t stage;
  DType dtype;
};
class ReadOnRank0 : public testing::TestWithParam<Way> {
 protected:
  static EngineOptions options() {
    EngineOptions options;
    options.zero_stage = GetParam().stage;
    options.compute_dtype = GetParam().dtype;
    return options;
  }
};

// Reads every unit, meeting before each.
void read_all(StageRig& rig, const Values::Meet& together) {
  rig.engine->read_on_rank_0(
      [&](const OpenUnit& open, const Values::Meet& meet) {
        for (size_t unit = 0; unit < rig.table.units().size(); ++unit) {
          meet();
          open(static_cast<int>(unit));
        }
      },
      together);
}

TEST_P(ReadOnRank0, AllMeetAsOftenAsRank0Says) {
  StageRig rig(full_config(), true, options());
  int64_t met = 0;
  read_all(rig, [&] { met += rig.world.sum(int64_t{1}); });
  EXPECT_EQ(met, rig.world.size() * static_cast<int64_t>(rig.table.units().size()));
}

TEST_P(ReadOnRank0, WhatAllThrowThereEndsItOnAll) {
  StageRig rig(full_config(), true, options());
  int64_t met = 0;
  EXPECT_THROW(read_all(rig,
                        [&] {
                          if (rig.world.sum(int64_t{1}) > 0 && ++met == 2)
                            throw std::runtime_error("enough");
                        }),
               std::runtime_error);
  EXPECT_EQ(met, 2);
  // The ranks are still in step, and nothing is left open.
  met = 0;
  read_all(rig, [&] { met += rig.world.sum(int64_t{1}); });
  EXPECT_GT(met, 0);
}

TEST_P(ReadOnRank0, AnErrorOfRank0IsItsOwn) {
  StageRig rig(full_config(), true, options());
  const auto read = [&] {
    rig.engine->read_on_rank_0(
        [&](const OpenUnit& open, const Values::Meet& meet) {
          meet();
          open(0);
          throw std::runtime_error("disk full");
        },
        [] {});
  };
  if (rig.world.rank() == 0)
    EXPECT_THROW(read(), std::runtime_error);
  else
    read();
  EXPECT_EQ(rig.world.sum(int64_t{1}), rig.world.size());
}

INSTANTIATE_TEST_SUITE_P(Stages, ReadOnRank0,
                         testing::Values(Way{0, DType::kF32}, Way{2, DType::kBF16},
                                         Way{3, DType::kF32}, Way{3, DType::kBF16}));

}  // namespace
}  // namespace facet
