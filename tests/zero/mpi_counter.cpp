#include "tests/zero/mpi_counter.h"

#include <mpi.h>

#include <map>

namespace {

int64_t floats_sent = 0, halves_sent = 0;

facet::ExchangeWatcher* watcher = nullptr;
int64_t exchanges = 0;                     // since a watcher was set
std::map<MPI_Request, int64_t> under_way;  // their numbers

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

void count(int64_t elements, MPI_Datatype type) {
  if (type == MPI_FLOAT || type == MPI_UINT16_T) floats_sent += elements;
  if (type == MPI_UINT16_T) halves_sent += elements;
}

}  // namespace

namespace facet {
int64_t mpi_floats_sent() { return floats_sent; }
int64_t mpi_halves_sent() { return halves_sent; }
void watch_exchanges(ExchangeWatcher* who) {
  watcher = who;
  exchanges = 0;
  under_way.clear();
}
}  // namespace facet

extern "C" {

int MPI_Ialltoallv(const void* send, const int* counts, const int* places, MPI_Datatype type,
                   void* receive, const int* receive_counts, const int* receive_places,
                   MPI_Datatype receive_type, MPI_Comm comm, MPI_Request* request) {
  for (int r = 0; r < size_of(comm); ++r)
    if (r != rank_in(comm)) count(counts[r], type);
  const int code = PMPI_Ialltoallv(send, counts, places, type, receive, receive_counts,
                                   receive_places, receive_type, comm, request);
  if (watcher != nullptr) {
    under_way[*request] = exchanges;
    watcher->started(exchanges++);
  }
  return code;
}

int MPI_Wait(MPI_Request* request, MPI_Status* status) {
  const auto exchange = under_way.find(*request);
  if (watcher != nullptr && exchange != under_way.end()) {
    watcher->waited_for(exchange->second);
    under_way.erase(exchange);
  }
  return PMPI_Wait(request, status);
}

int MPI_Allgather(const void* send, int send_count, MPI_Datatype type, void* receive,
                  int receive_count, MPI_Datatype receive_type, MPI_Comm comm) {
  count(int64_t{receive_count} * (size_of(comm) - 1), receive_type);
  return PMPI_Allgather(send, send_count, type, receive, receive_count, receive_type, comm);
}

int MPI_Iallgatherv(const void* send, int send_count, MPI_Datatype type, void* receive,
                    const int* receive_counts, const int* places, MPI_Datatype receive_type,
                    MPI_Comm comm, MPI_Request* request) {
  count(int64_t{send_count} * (size_of(comm) - 1), type);
  return PMPI_Iallgatherv(send, send_count, type, receive, receive_counts, places, receive_type,
                          comm, request);
}

}  // extern "C"
