// Where the ranks of a run compute: hosts, cores, threads, GPUs.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"
#include "train/compute_device.h"

namespace facet {

struct RankBinding {
  std::string host;
  std::string cores;  // "0-7"
  std::string numa;   // the nodes that they belong to, "0"; "" where the system does not say
  int64_t threads = 0;
  std::string gpu;  // "0 NVIDIA H200"; "" on the CPU

  bool operator==(const RankBinding&) const = default;
};

// Of all ranks, on every rank. Collective.
std::vector<RankBinding> gather_binding(Communicator& world, const std::string& host,
                                        const ComputeDevice& device);

// A table with a line for each rank, or for ranks in a row that are alike; of many lines the first
// ones.
std::string binding_text(const std::vector<RankBinding>& ranks);

}  // namespace facet
