// A communicator of the emulated NCCL with streams and memory, for the tests of its rules.
#pragma once

#include <gtest/gtest.h>
#include <mpi.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "comm/nccl.h"
#include "tests/comm/cuda/device_tensor.h"
#include "tests/device/cuda/emulated_device.h"

namespace facet::device_test {

inline ncclComm_t new_communicator(MPI_Comm comm) {
  int rank = 0, size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  ncclUniqueId id{};
  if (rank == 0) ncclGetUniqueId(&id);
  MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, comm);
  ncclComm_t made = nullptr;
  ncclCommInitRank(&made, size, id, rank);
  return made;
}

class NcclRules : public testing::Test {
 protected:
  static constexpr int kCount = 1000;

  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
  }
  void TearDown() override { run_streams_at_once(); }

  // Streams, arrays and a communicator that live as long as one trial.
  struct Rig {
    int rank, ranks;
    Stream compute, network;
    DeviceArray source, sent, received, other;  // (1000), (1000), (ranks, 1000) twice
    ncclComm_t comm = new_communicator(MPI_COMM_WORLD);

    Rig(int rank, int ranks)
        : rank(rank),
          ranks(ranks),
          source(std::vector<float>(kCount, static_cast<float>(1 + rank)), DType::kF32, compute),
          sent(kCount, DType::kF32),
          received(ranks * kCount, DType::kF32),
          other(ranks * kCount, DType::kF32) {}
    ~Rig() { ncclCommAbort(comm); }

    int next() const { return (rank + 1) % ranks; }
    float* floats(const DeviceArray& x) const { return x.tensor().f32(); }
    void gather(const Stream& stream, size_t count = kCount) const {
      ncclAllGather(floats(sent), floats(received), count, ncclFloat32, comm, stream);
    }
    void broadcast(const Stream& stream, int root, ncclDataType_t type = ncclFloat32) const {
      ncclBroadcast(floats(other), floats(other), kCount, type, root, comm, stream);
    }
    void let_wait(const Stream& later, const Stream& earlier) const {
      Event event;
      event.record(earlier);
      later.wait(event);
    }
    // The expected result of the gather.
    std::vector<float> expected() const {
      std::vector<float> values;
      for (int r = 0; r < ranks; ++r)
        values.insert(values.end(), kCount, static_cast<float>(1 + r));
      return values;
    }
  };

  // The error in which the trial ends here, "" for none.
  template <typename Trial>
  std::string error_of(const Trial& trial) const {
    std::string text;
    try {
      Rig rig(rank_, ranks_);
      trial(rig);
      cudaDeviceSynchronize();
    } catch (const Error& e) {
      text = e.what();
    }
    reset_device();
    return text;
  }

  int rank_ = 0, ranks_ = 1;
};

}  // namespace facet::device_test
