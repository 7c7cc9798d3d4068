// facet bandwidth: how fast all-reduces are, between all ranks, within each host and between pairs
// of hosts. Rates as nccl-tests defines them, in 10^9 bytes a second: algbw is the size over the
// time, busbw is algbw x 2(n-1)/n, which n ranks on equal links reach whatever n is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

struct AllReduceRate {
  int ranks = 0;  // 0: not measured
  int64_t bytes = 0;
  double seconds = 0;

  double algbw() const { return static_cast<double>(bytes) / seconds * 1e-9; }
  double busbw() const { return algbw() * 2 * (ranks - 1) / ranks; }
};

struct HostRates {
  std::string host;
  AllReduceRate alone;       // among its own ranks
  AllReduceRate with_other;  // together with another host: the best of some
  std::string other;
};

struct BandwidthReport {
  std::string by;                  // what carries it: mpi, nccl, ...
  std::vector<AllReduceRate> all;  // of all ranks, by size
  std::vector<HostRates> hosts;
};

// Tables for people, then a line for each rate that scripts can read:
//   BANDWIDTH by=mpi of=all ranks=8 bytes=.. seconds=.. algbw=.. busbw=..
//   BANDWIDTH by=mpi of=host host=n1 ranks=4 ...
//   BANDWIDTH by=mpi of=pair host=n1 other=n2 ranks=8 ...
std::string bandwidth_text(const BandwidthReport& report);

}  // namespace facet
