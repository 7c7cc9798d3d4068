#include "tests/zero/mpi_counter.h"

#include <mpi.h>

namespace {

int64_t floats_sent = 0;

int size_of(MPI_Comm comm) {
  int size = 0;
  PMPI_Comm_size(comm, &size);
  return size;
}

int rank_in(MPI_Comm comm) {
  int rank = 0;
  PMPI_Comm_rank(comm, &rank);
  return rank;
}

bool is_float(MPI_Datatype type) { return type == MPI_FLOAT || type == MPI_UINT16_T; }

}  // namespace

namespace facet {
int64_t mpi_floats_sent() { return floats_sent; }
}  // namespace facet

extern "C" {

int MPI_Alltoallv(const void* send, const int* counts, const int* places, MPI_Datatype type,
                  void* receive, const int* receive_counts, const int* receive_places,
                  MPI_Datatype receive_type, MPI_Comm comm) {
  for (int r = 0; is_float(type) && r < size_of(comm); ++r)
    if (r != rank_in(comm)) floats_sent += counts[r];
  return PMPI_Alltoallv(send, counts, places, type, receive, receive_counts, receive_places,
                        receive_type, comm);
}

int MPI_Allgather(const void* send, int count, MPI_Datatype type, void* receive, int receive_count,
                  MPI_Datatype receive_type, MPI_Comm comm) {
  if (is_float(receive_type)) floats_sent += int64_t{receive_count} * (size_of(comm) - 1);
  return PMPI_Allgather(send, count, type, receive, receive_count, receive_type, comm);
}

int MPI_Iallgatherv(const void* send, int count, MPI_Datatype type, void* receive,
                    const int* receive_counts, const int* places, MPI_Datatype receive_type,
                    MPI_Comm comm, MPI_Request* request) {
  if (is_float(type)) floats_sent += int64_t{count} * (size_of(comm) - 1);
  return PMPI_Iallgatherv(send, count, type, receive, receive_counts, places, receive_type, comm,
                          request);
}

int MPI_Allgatherv(const void* send, int count, MPI_Datatype type, void* receive,
                   const int* receive_counts, const int* places, MPI_Datatype receive_type,
                   MPI_Comm comm) {
  if (is_float(receive_type))
    floats_sent += int64_t{receive_counts[rank_in(comm)]} * (size_of(comm) - 1);
  return PMPI_Allgatherv(send, count, type, receive, receive_counts, places, receive_type, comm);
}

}  // extern "C"
