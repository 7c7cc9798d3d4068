// Every record is checked once, whatever the number of ranks, and each fault is found with its
// place.
#include "data/record_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "fake_data.h"

namespace facet {
namespace {

constexpr int64_t kMaxImages = 2;

struct Rig {
  explicit Rig(int64_t concatenate = 1)
      : table(datasets, {{DatasetRequest::kAllSamples, concatenate}, {5, 1}}, 0.8, 7) {}
  FakeDataset& first() { return dynamic_cast<FakeDataset&>(*datasets[0]); }

  // What all ranks find, in the order of the items.
  std::vector<BadItem> bad(int64_t ranks) const {
    std::vector<BadItem> all;
    int64_t checked = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      RecordCheck check(table, builder, kMaxImages, rank, ranks);
      const int64_t share = (check.num_items() - rank + ranks - 1) / ranks;
      for (int turn = 0; turn < 1000 && check.checked() < share; ++turn) check.go_on(0.05);
      all.insert(all.end(), check.bad().begin(), check.bad().end());
      checked += check.checked();
      EXPECT_EQ(check.num_records(), 60 + 37);  // those not drawn too
      EXPECT_TRUE(rank + 1 < ranks || checked == check.num_items());
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.item < b.item; });
    return all;
  }

  Datasets datasets = fake_datasets({{"a", 60}, {"b", 37}});
  SampleTable table;
  FakeBuilder builder;
};

TEST(RecordCheck, AllGood) {
  const Rig rig;
  EXPECT_TRUE(rig.bad(1).empty());
  EXPECT_TRUE(rig.bad(100).empty());  // some have nothing to do
}

TEST(RecordCheck, FindsEachFaultOnAnyRank) {
  Rig rig;
  rig.first().empty_answer = 59;
  dynamic_cast<FakeDataset&>(*rig.datasets[1]).unreadable_image = 36;
  for (const int64_t ranks : {1, 2, 3, 7}) {
    const auto bad = rig.bad(ranks);
    ASSERT_EQ(bad.size(), 2u) << ranks;
    EXPECT_EQ(bad[0].record.dataset, "a");
    EXPECT_EQ(bad[0].record.records, (std::vector<int64_t>{59}));
    EXPECT_EQ(bad[0].record.file, "a.json");
    EXPECT_EQ(bad[0].record.reason, "the answer of round 1 is empty");
    EXPECT_EQ(bad[1].record.dataset, "b");
    EXPECT_EQ(bad[1].record.records, (std::vector<int64_t>{36}));
  }
}

TEST(RecordCheck, ABadRecordIsALineOfJson) {
  const BadRecord bad{"a\"b", {1, 2}, "x\n.jpg", "why"};
  EXPECT_EQ(bad.json(),
            R"({"dataset": "a\"b", "records": [1, 2], "file": "x\n.jpg", "reason": "why"})");
}

// Records of one image each, up to 5 of them in a sample, where 2 are allowed.
TEST(RecordCheck, GoodRecordsCanMakeABadSample) {
  const Rig rig(5);
  const auto bad = rig.bad(2);
  ASSERT_FALSE(bad.empty());
  std::set<int64_t> seen;
  for (const auto& [item, record] : bad) {
    EXPECT_GT(record.records.size(), 2u);
    EXPECT_EQ(record.dataset, "a");
    EXPECT_NE(record.reason.find("more than --max_num_image_per_sample 2"), std::string::npos);
    for (const int64_t number : record.records) EXPECT_TRUE(seen.insert(number).second);
  }
}

TEST(RecordCheck, ABugIsNoBadRecord) {
  Rig rig;
  rig.builder.internal_error = 7;
  EXPECT_THROW(rig.bad(1), std::logic_error);
}

}  // namespace
}  // namespace facet
