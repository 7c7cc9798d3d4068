// What cannot hang with NCCL does not hang with the emulation, for every mixture of early and late
// ranks: the device continues while its host waits. Run with 1, 2, 3 and 4 ranks.
#include "tests/comm/cuda/nccl_rig.h"
#include "tests/comm/first_ranks.h"

namespace facet::device_test {
namespace {

class Progress : public NcclRules {
 protected:
  // All mixtures of three policies on the first three ranks.
  template <typename Trial>
  void expect_no_hang(const Trial& trial) {
    using emulated::Lateness;
    for (int mixture = 0; mixture < 27; ++mixture) {
      const int digit = rank_ == 0 ? mixture : rank_ == 1 ? mixture / 3 : mixture / 9;
      const auto lateness = static_cast<Lateness>(digit % 3);
      emulated::set_stream_policy({lateness, static_cast<uint64_t>(100 * mixture + rank_)});
      const std::string text = error_of([&](const Rig& rig) {
        copy_on(rig.compute, rig.sent, rig.source);
        rig.let_wait(rig.network, rig.compute);
        trial(rig);
        rig.network.synchronize();
        EXPECT_EQ(rig.received.download<float>(rig.compute), rig.expected());
        ncclCommDestroy(rig.comm);
      });
      EXPECT_EQ(text, "");
    }
  }
};

TEST_F(Progress, ARankCallsBeforeItMeetsTheOthersInMpi) {
  expect_no_hang([](const Rig& rig) {
    if (rig.rank == 0) rig.gather(rig.network);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rig.rank != 0) rig.gather(rig.network);
  });
}

// The others wait for two calls, one after the other, that this rank's host does not observe.
TEST_F(Progress, ARankInMpiServesWhatItHasQueued) {
  expect_no_hang([](const Rig& rig) {
    rig.gather(rig.network);
    rig.let_wait(rig.compute, rig.network);
    copy_on(rig.compute, rig.other, rig.received);
    rig.let_wait(rig.network, rig.compute);
    rig.broadcast(rig.network, 0);
    if (rig.rank == 0) rig.network.synchronize();
    int sum = 1;
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    EXPECT_EQ(sum, rig.ranks);
  });
}

TEST_F(Progress, TwoCommunicatorsAreWaitedForInAnyOrder) {
  expect_no_hang([](const Rig& rig) {
    const ncclComm_t second = new_communicator(MPI_COMM_WORLD);
    const Stream beside;
    rig.gather(rig.network);
    ncclBroadcast(rig.floats(rig.other), rig.floats(rig.other), kCount, ncclFloat32, 0, second,
                  beside);
    (rig.rank == 0 ? rig.network : beside).synchronize();
    (rig.rank == 0 ? beside : rig.network).synchronize();
    ncclCommDestroy(second);
  });
}

// The order of the calls holds, even where the streams' order would be another.
TEST_F(Progress, OneCommunicatorOnTwoStreams) {
  expect_no_hang([](const Rig& rig) {
    const Stream beside;
    rig.gather(rig.network);
    rig.broadcast(beside, 0);
    rig.gather(rig.network);
    (rig.rank == 0 ? rig.network : beside).synchronize();
    beside.synchronize();
  });
}

TEST_F(Progress, ACommunicatorMayBeOfSomeRanks) {
  const FirstRanks first(2);
  if (!first.member()) return;
  const ncclComm_t comm = new_communicator(first.comm());
  const Stream stream;
  const DeviceArray x(std::vector<float>(5, static_cast<float>(rank_)), DType::kF32, stream);
  ncclBroadcast(x.tensor().raw(), x.tensor().raw(), 5, ncclFloat32, 0, comm, stream);
  EXPECT_EQ(x.download<float>(stream), std::vector<float>(5, 0.0f));
  ncclCommDestroy(comm);
}

}  // namespace
}  // namespace facet::device_test
