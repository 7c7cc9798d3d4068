// What is gathered ahead, for a model of four blocks whose order of use is known.
#include "zero/residency.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/check.h"

namespace facet {
namespace {

class RecordingGatherer : public UnitGatherer {
 public:
  void gather(int unit) override { note("gather", unit); }
  void start_gather(int unit) override { note("start", unit); }
  void finish_gather(int unit) override { note("finish", unit); }
  void drop_gathered(int unit) override { note("drop", unit); }
  void expect(int unit) override { expected_.push_back(unit); }
  std::vector<int> take_expected() { return std::move(expected_); }
  std::string take() { return std::move(events_); }

 private:
  void note(const char* what, int unit) {
    events_ += (events_.empty() ? "" : " ") + std::string(what) + std::to_string(unit);
  }
  std::string events_;
  std::vector<int> expected_;
};

struct Rig {
  explicit Rig(const ResidencyLimits& limits, std::vector<int64_t> elements = {10, 10, 10, 10})
      : residency(std::move(elements), limits, gatherer) {}
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
    return gatherer.take();
  }
  RecordingGatherer gatherer;
  Residency residency;
};

TEST(Residency, WithoutPrefetchEachUseFetches) {
  Rig rig({0, 1000});
  const std::string pass =
      "gather0 drop0 gather1 drop1 gather2 drop2 gather3 drop3 "
      "gather3 drop3 gather2 drop2 gather1 drop1 gather0 drop0";
  EXPECT_EQ(rig.train(), pass);
  EXPECT_EQ(rig.train(), pass);
}

TEST(Residency, UsesAreCounted) {
  Rig rig({0, 1000});
  rig.residency.acquire(2, Phase::kBackward);
  rig.residency.acquire(2, Phase::kRecompute);
  rig.residency.release(2);
  EXPECT_EQ(rig.gatherer.take(), "gather2");
  rig.residency.release(2);
  EXPECT_EQ(rig.gatherer.take(), "drop2");
  EXPECT_THROW(rig.residency.release(2), Error);
}

// The second pass starts each unit while the one before it is in use, and nothing beyond its end.
TEST(Residency, TheNextUnitIsStartedBeforeTheUseOfThisOneEnds) {
  Rig rig({10, 1000});
  rig.train();
  EXPECT_EQ(rig.train(),
            "gather0 start1 drop0 finish1 start2 drop1 finish2 start3 drop2 finish3 drop3 "
            "gather3 start2 drop3 finish2 start1 drop2 finish1 start0 drop1 finish0 drop0");
}

// In the order of use, and nothing beyond the end of the pass. Unit 3 is used twice in a row, and
// what comes after both uses is expected during the first.
TEST(Residency, WithoutPrefetchTheNextUnitIsExpected) {
  Rig rig({0, 1000});
  rig.train();
  EXPECT_EQ(rig.gatherer.take_expected(), std::vector<int>());
  rig.train();
  EXPECT_EQ(rig.gatherer.take_expected(), (std::vector<int>{1, 2, 3, 2, 2, 1, 0}));
  Rig ahead({10, 1000});
  ahead.train();
  ahead.train();
  EXPECT_EQ(ahead.gatherer.take_expected(), std::vector<int>());
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
      for (const std::string word : {"gather", "start"})
        for (size_t at = events.find(word); at != std::string::npos; at = events.find(word, at + 1))
          ++gathers;
      EXPECT_EQ(gathers, 16u) << bucket << " " << live << ": " << events;
    }
}

TEST(Residency, WhatWasStartedInVainIsGivenBack) {
  Rig rig({10, 1000});
  rig.train();
  rig.residency.acquire(0, Phase::kForward);
  EXPECT_EQ(rig.gatherer.take(), "gather0 start1");
  rig.residency.release(0);
  rig.use(3, Phase::kBackward);  // another order than the last time
  EXPECT_EQ(rig.gatherer.take(), "drop0 gather3 finish1 drop1 start2 drop3");
  rig.residency.acquire_outside_pass(0);
  EXPECT_EQ(rig.gatherer.take(), "finish2 drop2 gather0");
  rig.residency.release(0);
  EXPECT_EQ(rig.gatherer.take(), "drop0");
}

}  // namespace
}  // namespace facet
