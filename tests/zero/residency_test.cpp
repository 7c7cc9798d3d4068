// What is gathered ahead, for a model of four blocks whose order of use is known.
#include "zero/residency.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/check.h"

namespace facet {
namespace {

class RecordingMover : public UnitMover {
 public:
  void fetch(int unit) override { note("fetch", unit); }
  void start(int unit) override { note("start", unit); }
  void arrive(int unit) override { note("arrive", unit); }
  void give_back(int unit) override { note("back", unit); }
  std::string take() { return std::move(events_); }

 private:
  void note(const char* what, int unit) {
    events_ += (events_.empty() ? "" : " ") + std::string(what) + std::to_string(unit);
  }
  std::string events_;
};

struct Rig {
  explicit Rig(const ResidencyLimits& limits, std::vector<int64_t> elements = {10, 10, 10, 10})
      : residency(std::move(elements), limits, mover) {}
  void use(int unit, Phase phase) {
    residency.acquire(unit, phase);
    residency.release(unit);
  }
  void forward() {
    for (int unit = 0; unit < 4; ++unit) use(unit, Phase::kForward);
  }
  std::string train() {
    forward();
    for (int unit = 3; unit >= 0; --unit) use(unit, Phase::kBackward);
    return mover.take();
  }
  RecordingMover mover;
  Residency residency;
};

TEST(Residency, WithoutPrefetchEachUseFetches) {
  Rig rig({0, 1000});
  const std::string pass =
      "fetch0 back0 fetch1 back1 fetch2 back2 fetch3 back3 "
      "fetch3 back3 fetch2 back2 fetch1 back1 fetch0 back0";
  EXPECT_EQ(rig.train(), pass);
  EXPECT_EQ(rig.train(), pass);
}

TEST(Residency, UsesAreCounted) {
  Rig rig({0, 1000});
  rig.residency.acquire(2, Phase::kBackward);
  rig.residency.acquire(2, Phase::kRecompute);
  rig.residency.release(2);
  EXPECT_EQ(rig.mover.take(), "fetch2");
  rig.residency.release(2);
  EXPECT_EQ(rig.mover.take(), "back2");
  EXPECT_THROW(rig.residency.release(2), Error);
}

// The second pass starts each unit while the one before it is in use, and nothing beyond its end.
TEST(Residency, TheNextUnitIsStartedBeforeTheUseOfThisOneEnds) {
  Rig rig({10, 1000});
  rig.train();
  EXPECT_EQ(rig.train(),
            "fetch0 start1 back0 arrive1 start2 back1 arrive2 start3 back2 arrive3 back3 "
            "fetch3 start2 back3 arrive2 start1 back2 arrive1 start0 back1 arrive0 back0");
}

TEST(Residency, LimitsHold) {
  Rig bucket({9, 1000}), live({1000, 19}), small({30, 1000}, {10, 10, 0, 10});
  const std::string plain = bucket.train();
  EXPECT_EQ(bucket.train(), plain);
  EXPECT_EQ(live.train(), plain);
  EXPECT_EQ(live.train(), plain);
  small.train();
  EXPECT_EQ(small.train().find("2"), std::string::npos);
}

// Sooner or later, but each use is gathered once.
TEST(Residency, NothingIsStartedInVainInARepeatedPass) {
  for (int64_t bucket = 0; bucket < 120; bucket += 5)
    for (const int64_t live : {12, 25, 33, 1000}) {
      Rig rig({bucket, live}, {12, 5, 20, 7});
      rig.train();
      const std::string events = rig.train() + rig.train();
      size_t gathers = 0;
      for (const std::string word : {"fetch", "start"})
        for (size_t at = events.find(word); at != std::string::npos; at = events.find(word, at + 1))
          ++gathers;
      EXPECT_EQ(gathers, 16u) << bucket << " " << live << ": " << events;
    }
}

TEST(Residency, WhatWasStartedInVainIsGivenBack) {
  Rig rig({10, 1000});
  rig.train();
  rig.residency.acquire(0, Phase::kForward);
  EXPECT_EQ(rig.mover.take(), "fetch0 start1");
  rig.residency.release(0);
  rig.use(3, Phase::kBackward);  // another order than the last time
  EXPECT_EQ(rig.mover.take(), "back0 fetch3 arrive1 back1 start2 back3");
  rig.residency.acquire_alone(0);
  EXPECT_EQ(rig.mover.take(), "arrive2 back2 fetch0");
  rig.residency.release(0);
  EXPECT_EQ(rig.mover.take(), "back0");
}

}  // namespace
}  // namespace facet
