// Mistakes in the use of NCCL, each red by a named check on every rank, whatever the streams'
// policy. Run with 1, 2, 3 and 4 ranks.
#include <functional>

#include "emulated/device/observer.h"
#include "tests/comm/cuda/nccl_rig.h"

namespace facet::device_test {
namespace {

// Calls that differ between the ranks, and what the error says of it.
class Disagreements : public NcclRules {
 protected:
  void expect_on_every_rank(const std::function<void(const Rig&)>& trial, const char* message) {
    if (ranks_ == 1) return;  // no other rank to disagree with
    for_stream_policies(rank_, [&] {
      const std::string text = error_of(trial);
      EXPECT_NE(text.find("differs between the ranks"), std::string::npos) << text;
      EXPECT_NE(text.find(message), std::string::npos) << text;
      EXPECT_NE(text.find("tests/comm/cuda/nccl_r"), std::string::npos) << text;  // the line
    });
  }
};

TEST_F(Disagreements, InTheOrderOfTwoCalls) {
  expect_on_every_rank(
      [](const Rig& rig) {
        if (rig.rank == 0) rig.gather(rig.network);
        rig.broadcast(rig.network, 0);
        if (rig.rank != 0) rig.gather(rig.network);
      },
      "call 1 of this communicator differs between the ranks");
}

TEST_F(Disagreements, InTheCount) {
  expect_on_every_rank(
      [](const Rig& rig) {
        rig.gather(rig.network);
        rig.gather(rig.network, rig.rank == rig.ranks - 1 ? kCount - 1 : kCount);
      },
      "call 2 of this communicator differs between the ranks");
}

TEST_F(Disagreements, InTheRoot) {
  expect_on_every_rank([](const Rig& rig) { rig.broadcast(rig.network, rig.rank == 1 ? 1 : 0); },
                       "broadcasts 1000 fp32 from rank 1");
}

TEST_F(Disagreements, InTheType) {
  expect_on_every_rank(
      [](const Rig& rig) {
        rig.broadcast(rig.network, 0, rig.rank == 1 ? ncclBfloat16 : ncclFloat32);
      },
      "broadcasts 1000 bf16 from rank 0");
}

// A ring in which the last rank expects less than it is sent.
TEST_F(Disagreements, InTheCountOfOnePair) {
  expect_on_every_rank(
      [](const Rig& rig) {
        ncclGroupStart();
        for (int r = 0; r < rig.ranks; ++r) {
          if (r == rig.rank) continue;
          const bool less = rig.rank == rig.ranks - 1 && r == 0;
          ncclSend(rig.floats(rig.sent), kCount, ncclFloat32, r, rig.comm, rig.network);
          ncclRecv(rig.received.range(r * kCount, kCount).f32(), less ? 10 : kCount, ncclFloat32, r,
                   rig.comm, rig.network);
        }
        ncclGroupEnd();
        rig.gather(rig.network);
      },
      "receives 10 fp32 from rank 0");
}

TEST_F(Disagreements, WhereARankLeavesACallOut) {
  expect_on_every_rank(
      [](const Rig& rig) {
        if (rig.rank != 0) rig.gather(rig.network);
        ncclCommDestroy(rig.comm);
      },
      "rank 0 ends the communicator");
}

// ---- rules of one rank

class Rules : public NcclRules {
 protected:
  void expect_error(const std::function<void(const Rig&)>& trial, const std::string& message) {
    for_stream_policies(rank_, [&] {
      const std::string text = error_of(trial);
      EXPECT_NE(text.find(message), std::string::npos) << text;
      EXPECT_NE(text.find("tests/comm/cuda/nccl_r"), std::string::npos) << text;
      MPI_Barrier(MPI_COMM_WORLD);
    });
  }
};

TEST_F(Rules, SendsStandInGroups) {
  expect_error(
      [](const Rig& rig) {
        ncclSend(rig.floats(rig.sent), kCount, ncclFloat32, 0, rig.comm, rig.network);
      },
      "ncclSend and ncclRecv must be in groups");
}

TEST_F(Rules, EveryRankIsInAGroup) {
  if (ranks_ < 3) return;
  expect_error(
      [](const Rig& rig) {
        ncclGroupStart();
        ncclSend(rig.floats(rig.sent), kCount, ncclFloat32, rig.next(), rig.comm, rig.network);
        ncclRecv(rig.floats(rig.received), kCount, ncclFloat32, rig.next(), rig.comm, rig.network);
        ncclGroupEnd();
      },
      "needs every rank in each group");
}

TEST_F(Rules, BuffersAreDeviceMemory) {
  expect_error(
      [](const Rig& rig) {
        static float host[kCount];
        ncclBroadcast(host, host, kCount, ncclFloat32, 0, rig.comm, rig.network);
      },
      "which is no device memory");
  expect_error([](const Rig& rig) { rig.gather(rig.network, kCount + 1); },
               "bytes [0, 4004) of the 4000 allocated at");
  expect_error(
      [](const Rig& rig) {
        void* freed = nullptr;
        cudaMalloc(&freed, kCount * sizeof(float));
        cudaFree(freed);
        ncclBroadcast(freed, freed, kCount, ncclFloat32, 0, rig.comm, rig.network);
      },
      "device memory that was freed at");
}

TEST_F(Rules, StreamsAreNamed) {
  expect_error(
      [](const Rig& rig) {
        ncclBroadcast(rig.floats(rig.sent), rig.floats(rig.sent), kCount, ncclFloat32, 0, rig.comm,
                      nullptr);
      },
      "the default stream is not used here");
}

TEST_F(Rules, PlacesDoNotOverlap) {
  if (ranks_ == 1) return;
  expect_error(
      [](const Rig& rig) {
        const float* elsewhere = rig.floats(rig.received) + rig.next() * kCount;
        ncclAllGather(elsewhere, rig.floats(rig.received), kCount, ncclFloat32, rig.comm,
                      rig.network);
      },
      "receives into memory that is sent");
}

TEST_F(Rules, AFailedCommunicatorIsOnlyAborted) {
  if (ranks_ == 1) return;
  const std::string text = error_of([](const Rig& rig) {
    EXPECT_THROW(
        {
          rig.broadcast(rig.network, rig.rank);
          rig.network.synchronize();
        },
        Error);
    ncclResult_t state = ncclSuccess;
    ncclCommGetAsyncError(rig.comm, &state);
    EXPECT_EQ(state, ncclRemoteError);
    EXPECT_NE(std::string(ncclGetLastError(rig.comm)).find("differs"), std::string::npos);
    rig.broadcast(rig.network, 0);
  });
  EXPECT_NE(text.find("has failed and can only be aborted"), std::string::npos) << text;
}

// ---- the order of streams: some policy yields wrong data, and the race check names the places

class Orders : public NcclRules {
 protected:
  // What the gather brought, under every policy, or the error.
  void expect_caught(const std::function<void(const Rig&)>& trial) {
    int wrong = 0, races = 0;
    for_stream_policies(rank_, [&] {
      const std::string text = error_of([&](const Rig& rig) {
        trial(rig);
        wrong += rig.other.download<float>(rig.compute) != rig.expected();
      });
      races += text.find("race: ") != std::string::npos;
      EXPECT_TRUE(text.empty() || races > 0) << text;
      MPI_Barrier(MPI_COMM_WORLD);
    });
    EXPECT_GT(emulated::observer() ? races : wrong, 0);
  }
  static void use_result(const Rig& rig) { copy_on(rig.compute, rig.other, rig.received); }
};

TEST_F(Orders, WithAllEventsEveryPolicyBringsTheData) {
  for_stream_policies(rank_, [&] {
    const std::string text = error_of([&](const Rig& rig) {
      copy_on(rig.compute, rig.sent, rig.source);
      rig.let_wait(rig.network, rig.compute);
      rig.gather(rig.network);
      rig.let_wait(rig.compute, rig.network);
      use_result(rig);
      EXPECT_EQ(rig.other.download<float>(rig.compute), rig.expected());
      ncclCommDestroy(rig.comm);
    });
    EXPECT_EQ(text, "");
  });
}

TEST_F(Orders, SentBeforeItIsComputed) {
  expect_caught([](const Rig& rig) {
    copy_on(rig.compute, rig.sent, rig.source);
    rig.gather(rig.network);
    rig.let_wait(rig.compute, rig.network);
    use_result(rig);
  });
}

TEST_F(Orders, ReadBeforeItHasArrived) {
  expect_caught([](const Rig& rig) {
    copy_on(rig.compute, rig.sent, rig.source);
    rig.let_wait(rig.network, rig.compute);
    rig.gather(rig.network);
    use_result(rig);
  });
}

TEST_F(Orders, OverwrittenWhileItIsSent) {
  expect_caught([](const Rig& rig) {
    copy_on(rig.compute, rig.sent, rig.source);
    rig.let_wait(rig.network, rig.compute);
    rig.gather(rig.network);
    cudaMemsetAsync(rig.floats(rig.sent), 0, rig.sent.bytes(), rig.compute);
    rig.compute.synchronize();
    rig.let_wait(rig.compute, rig.network);
    use_result(rig);
  });
}

}  // namespace
}  // namespace facet::device_test
