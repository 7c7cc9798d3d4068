// Counts what this rank sends to others, below the program: the test binary's own MPI functions
// stand before the library's.
#pragma once

#include <cstdint>

namespace facet {

// Elements of fp32 or 16 bits sent so far by MPI_Alltoallv, MPI_Allgather, MPI_Iallgatherv and
// MPI_Allgatherv; what a rank keeps for itself is not sent.
int64_t mpi_floats_sent();

}  // namespace facet
