// How many compute threads a rank gets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "train/cores.h"

namespace facet {

// What the surroundings ask for: SLURM_CPUS_PER_TASK and OMP_NUM_THREADS, the smaller one.
struct AllowedThreads {
  int64_t most = kNoLimit;
  std::string by;       // the variable that says so; "" for none
  std::string ignored;  // which of them is no number of threads, in words; "" for none

  static constexpr int64_t kNoLimit = int64_t{1} << 20;
  static AllowedThreads of_this_process();
};

// The cores of a rank.
struct RankCores {
  std::string host;
  Cores bound;            // that it may run on
  int64_t usable = 0;     // on its host, if nobody had bound it
  bool one_core = false;  // bound to a single one, with its hardware threads
  int64_t most_threads = AllowedThreads::kNoLimit;  // that it would start
};

// This rank's share of the cores when every core is divided among the ranks of its host that may
// use it.
double share_of_cores(const std::vector<RankCores>& ranks, int rank);

// Says which ranks a launcher has bound to a core each although their host has at least two for
// each of its ranks, and what to do; "" for none.
std::string bound_to_one_core(const std::vector<RankCores>& ranks);

// `requested`, or where that is 0 this rank's share of the cores and no more than the surroundings
// allow. Rank 0 prints the numbers, and warns of what they hide: more threads than cores, cores
// left idle, variables that were ignored. Starts the threads: Error(kSystem) if the system has not
// as many. Collective.
int choose_threads(Communicator& world, const std::string& host, int64_t requested);

}  // namespace facet
