// Observes what this rank sends to others, below the program: the test binary's own MPI functions
// stand before the library's.
#pragma once

#include <cstdint>

namespace facet {

// Elements sent so far by MPI_Ialltoallv, MPI_Allgather and MPI_Iallgatherv; what a rank keeps for
// itself is not sent.
int64_t mpi_floats_sent();  // of fp32 or 16 bits
int64_t mpi_halves_sent();  // of 16 bits

// Exchanges (MPI_Ialltoallv) as they are started and waited for, numbered from 0 in the order of
// their starts.
class ExchangeWatcher {
 public:
  virtual ~ExchangeWatcher() = default;
  virtual void started(int64_t number) = 0;
  virtual void waited_for(int64_t number) = 0;
};
void watch_exchanges(ExchangeWatcher* watcher);  // nullptr: stops watching

}  // namespace facet
