// The collectives of the Communicator on tensors in device memory, by both transports, with streams
// that run at once, late and at random: run with 1, 2, 3 and 4 ranks.
#include <gtest/gtest.h>

#include <string>

#include "base/check.h"
#include "base/rng.h"
#include "comm/communicator.h"
#include "comm/cuda/device_collectives.h"
#include "comm/cuda/lone_transport.h"
#include "comm/cuda/nccl_transport.h"
#include "comm/cuda/staged_transport.h"
#include "tests/comm/cuda/device_tensor.h"

namespace facet {
namespace {

using device_test::copy_on, device_test::DeviceArray, device_test::parts_with_gaps;

enum class By : uint8_t { kStaged, kNccl };
std::string name_of(By by) { return by == By::kStaged ? "Staged" : "Nccl"; }

class Transport : public testing::TestWithParam<By> {
 protected:
  void SetUp() override {
    if (GetParam() == By::kStaged)
      world_.use(std::make_unique<StagedTransport>(MPI_COMM_WORLD, compute_));
    else
      world_.use(std::make_unique<NcclTransport>(MPI_COMM_WORLD, compute_));
  }
  // Every rank's values, different everywhere.
  std::vector<float> values_of(int rank, int64_t count) const {
    RandomStream stream(1, "test", static_cast<uint64_t>(rank));
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = (stream.uniform() - 0.5f) * 1000;
    return values;
  }
  int ranks() const { return world_.size(); }
  int mine() const { return world_.rank(); }

  Stream compute_;
  Communicator world_{MPI_COMM_WORLD};
};

TEST_P(Transport, AnExchangeBringsEveryRanksPart) {
  for (const int64_t count : {int64_t{1}, int64_t{97}, int64_t{7001}}) {
    device_test::for_stream_policies(mine(), [&] {
      const int64_t stride = count + 3, length = ranks() * stride;
      const RankParts parts = parts_with_gaps(ranks(), count);
      const std::vector<uint16_t> halves(static_cast<size_t>(length),
                                         static_cast<uint16_t>(0x3c00 + mine()));
      const DeviceArray source(values_of(mine(), length), DType::kF32, compute_);
      const DeviceArray half_source(halves, DType::kF16, compute_);
      const DeviceArray sent(length, DType::kF32), half_sent(length, DType::kF16);
      const DeviceArray received(std::vector<float>(static_cast<size_t>(length), -1.0f),
                                 DType::kF32, compute_);
      const DeviceArray half_received(std::vector<uint16_t>(static_cast<size_t>(length), 0),
                                      DType::kF16, compute_);
      const int64_t before = world_.elements_sent();
      // What is sent is computed just before.
      copy_on(compute_, sent, source);
      Communicator::Pending a = world_.start_exchange(received, sent, parts);
      copy_on(compute_, half_sent, half_source);
      Communicator::Pending b = world_.start_exchange(half_received, half_sent, parts);
      world_.progress();
      world_.wait(b);
      world_.wait(a);
      EXPECT_EQ(world_.elements_sent() - before, 2 * count * (ranks() - 1));
      const auto floats = received.download<float>(compute_);
      const auto half_words = half_received.download<uint16_t>(compute_);
      for (int r = 0; r < ranks(); ++r) {
        const std::vector<float> theirs = values_of(r, length);
        for (int64_t i = 0; i < stride; ++i) {
          const auto at = static_cast<size_t>(r * stride + i);
          const auto from = static_cast<size_t>(mine() * stride + i);
          ASSERT_EQ(floats[at], i < count ? theirs[from] : -1.0f) << r << " " << i;
          ASSERT_EQ(half_words[at], i < count ? 0x3c00 + r : 0) << r << " " << i;
        }
      }
    });
  }
}

TEST_P(Transport, AllGatherBringsTheSlices) {
  for (const int64_t length : {int64_t{1}, int64_t{97}, int64_t{5001}}) {
    const int64_t count = length * ranks(), begin = mine() * length;
    const std::vector<float> expected = values_of(0, count);
    const std::vector<float> slice(expected.begin() + begin, expected.begin() + begin + length);
    device_test::for_stream_policies(mine(), [&] {
      const DeviceArray source(slice, DType::kF32, compute_);
      const DeviceArray apart(length, DType::kF32), whole(count, DType::kF32),
          in_place(count, DType::kF32), result(count, DType::kF32);
      const int64_t sent = world_.elements_sent();
      copy_on(compute_, apart, source);
      world_.all_gather(whole, apart);
      copy_on(compute_, in_place.range(begin, length), source);
      world_.all_gather(in_place, in_place.range(begin, length));
      EXPECT_EQ(world_.elements_sent() - sent, 2 * length * (ranks() - 1));
      copy_on(compute_, result, whole);
      EXPECT_EQ(result.download<float>(compute_), expected);
      EXPECT_EQ(in_place.download<float>(compute_), expected);
    });
  }
}

// Rank r contributes 4097 + r elements, rank 1 none; two gathers at once; every pattern of 16 bits,
// NaNs too, arrives as it was.
TEST_P(Transport, UnevenGathersUnderWayBringTheSame) {
  RankParts parts;
  for (int r = 0; r < ranks(); ++r) {
    parts.offsets.push_back(static_cast<int>(parts.elements()));
    parts.counts.push_back(r == 1 ? 0 : 4097 + r);
  }
  const int64_t count = parts.elements();
  const int64_t begin = parts.offsets[static_cast<size_t>(mine())],
                own = parts.counts[static_cast<size_t>(mine())];
  std::vector<uint16_t> expected(static_cast<size_t>(count));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<uint16_t>(i * 40503u + 1);
  const std::vector<uint16_t> slice(expected.begin() + begin, expected.begin() + begin + own);
  for (const DType type : {DType::kBF16, DType::kF16})
    device_test::for_stream_policies(mine(), [&] {
      const DeviceArray part(slice, type, compute_), first(count, type), second(count, type);
      copy_on(compute_, second.range(begin, own), part);
      const int64_t sent = world_.elements_sent();
      Communicator::Pending a = world_.start_all_gather(first, part, parts);
      Communicator::Pending b = world_.start_all_gather(second, second.range(begin, own), parts);
      EXPECT_EQ(world_.sum(int64_t{1}), ranks());  // others run concurrently
      world_.wait(b);
      world_.wait(a);
      EXPECT_EQ(first.download<uint16_t>(compute_), expected);
      EXPECT_EQ(second.download<uint16_t>(compute_), expected);
      EXPECT_EQ(world_.elements_sent() - sent, 2 * own * (ranks() - 1));
    });
}

TEST_P(Transport, ABroadcastBringsTheRootsValues) {
  const int root = ranks() - 1;
  device_test::for_stream_policies(mine(), [&] {
    const DeviceArray source(values_of(mine(), 1009), DType::kF32, compute_);
    const DeviceArray x(1009, DType::kF32);
    const int64_t sent = world_.elements_sent();
    copy_on(compute_, x, source);
    world_.broadcast(x, root);
    EXPECT_EQ(x.download<float>(compute_), values_of(root, 1009));
    EXPECT_EQ(world_.elements_sent() - sent, mine() == root ? 1009 * (ranks() - 1) : 0);
  });
}

// Buckets are filled again as soon as their sums are formed: late streams must not see the next
// content, nor early ones the last.
TEST_P(Transport, BuffersAreUsedAgainAfterTheWait) {
  constexpr int64_t kCount = 501;
  const RankParts parts = parts_with_gaps(ranks(), kCount);
  const int64_t length = ranks() * (kCount + 3);
  device_test::for_stream_policies(mine(), [&] {
    const DeviceArray sent(length, DType::kF32), received(length, DType::kF32);
    std::vector<std::unique_ptr<DeviceArray>> results;
    for (int step = 0; step < 5; ++step) {
      const DeviceArray source(values_of(10 * step + mine(), length), DType::kF32, compute_);
      copy_on(compute_, sent, source);
      Communicator::Pending pending = world_.start_exchange(received, sent, parts);
      world_.wait(pending);
      copy_on(compute_, *results.emplace_back(std::make_unique<DeviceArray>(length, DType::kF32)),
              received);
    }
    for (int step = 0; step < 5; ++step) {
      const auto values = results[static_cast<size_t>(step)]->download<float>(compute_);
      for (int r = 0; r < ranks(); ++r) {
        const std::vector<float> theirs = values_of(10 * step + r, length);
        const auto part = [&](const std::vector<float>& whole, int rank) {
          const auto begin = whole.begin() + rank * (kCount + 3);
          return std::vector<float>(begin, begin + kCount);
        };
        EXPECT_EQ(part(values, r), part(theirs, mine())) << "step " << step << " rank " << r;
      }
    }
  });
}

TEST(DeviceCollectives, NcclWhereEveryRankHasAGpu) {
  const Stream compute;
  Communicator world(MPI_COMM_WORLD);
  const auto is_nccl = [&](DeviceCollectives choice) {
    const auto made = make_device_transport(world, compute, choice);
    return dynamic_cast<NcclTransport*>(made.get()) != nullptr;
  };
  EXPECT_EQ(is_nccl(DeviceCollectives::kAuto), world.size() > 1);
  EXPECT_TRUE(is_nccl(DeviceCollectives::kNccl));
  EXPECT_FALSE(is_nccl(DeviceCollectives::kMpi));
}

TEST(DeviceCollectives, NoneForARankAlone) {
  const Stream compute;
  Communicator alone(MPI_COMM_SELF);
  const auto made = make_device_transport(alone, compute, DeviceCollectives::kAuto);
  EXPECT_NE(dynamic_cast<LoneTransport*>(made.get()), nullptr);
}

// In place there is nothing to copy.
TEST(LoneTransport, BringsTheRanksOwnPart) {
  constexpr int64_t kCount = 97;
  const Stream compute;
  Communicator alone(MPI_COMM_SELF);
  alone.use(std::make_unique<LoneTransport>(compute));
  std::vector<float> values(kCount);
  for (int64_t i = 0; i < kCount; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
  device_test::for_stream_policies(0, [&] {
    const DeviceArray part(values, DType::kF32, compute), gathered(kCount, DType::kF32),
        exchanged(kCount, DType::kF32);
    alone.all_gather(gathered, part);
    alone.all_gather(part, part);
    const RankParts parts{{kCount}, {0}};
    Communicator::Pending pending = alone.start_exchange(exchanged, gathered, parts);
    alone.wait(pending);
    alone.broadcast(exchanged, 0);
    for (const DeviceArray* array : {&part, &gathered, &exchanged})
      EXPECT_EQ(array->download<float>(compute), values);
  });
}

TEST(DeviceCollectives, SharedGpusAreFound) {
  EXPECT_EQ(shared_gpu({"a 0000:01", "a 0000:02", "b 0000:01"}), "");
  EXPECT_EQ(shared_gpu({"a 0000:01", "b 0000:02", "a 0000:01"}),
            "ranks 0 and 2 share the GPU a 0000:01");
}

TEST(NoTransport, ATensorOnTheDeviceIsAClearError) {
  Communicator world(MPI_COMM_WORLD);
  const DeviceArray x(4, DType::kF32);
  try {
    world.broadcast(x, 0);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("before use() was called"), std::string::npos)
        << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(By, Transport, testing::Values(By::kStaged, By::kNccl),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace facet
