// While the host waits in MPI the emulated device continues, as a real one would: the MPI calls in
// which the program waits for other ranks are interposed here and call the library through its
// profiling interface (PMPI_). A collective is entered once all ranks have reached it, so that no
// rank waits inside the library.
//
// Not interposed: MPI_Comm_free, which one rank may call alone while an error ends it, and MPI-IO,
// which runs only after the device's data have been waited for.
#include <mpi.h>

#include "emulated/device/stream.h"

namespace {

int wait_for(MPI_Request* request, MPI_Status* status) {
  for (int over = 0;;) {
    const int code = PMPI_Test(request, &over, status);
    if (code != MPI_SUCCESS || over) return code;
    facet::emulated::device_goes_on();
  }
}

int meet(MPI_Comm comm) {
  MPI_Request all_here;
  const int code = PMPI_Ibarrier(comm, &all_here);
  return code != MPI_SUCCESS ? code : wait_for(&all_here, MPI_STATUS_IGNORE);
}

}  // namespace

extern "C" {

int MPI_Wait(MPI_Request* request, MPI_Status* status) { return wait_for(request, status); }

int MPI_Barrier(MPI_Comm comm) { return meet(comm); }

int MPI_Bcast(void* data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  const int code = meet(comm);
  return code != MPI_SUCCESS ? code : PMPI_Bcast(data, count, type, root, comm);
}

int MPI_Allreduce(const void* sent, void* received, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
  const int code = meet(comm);
  return code != MPI_SUCCESS ? code : PMPI_Allreduce(sent, received, count, type, op, comm);
}

int MPI_Allgather(const void* sent, int count, MPI_Datatype type, void* received, int count_each,
                  MPI_Datatype type_each, MPI_Comm comm) {
  const int code = meet(comm);
  return code != MPI_SUCCESS
             ? code
             : PMPI_Allgather(sent, count, type, received, count_each, type_each, comm);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* made) {
  const int code = meet(comm);
  return code != MPI_SUCCESS ? code : PMPI_Comm_dup(comm, made);
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm* made) {
  const int code = meet(comm);
  return code != MPI_SUCCESS ? code : PMPI_Comm_split(comm, color, key, made);
}

}  // extern "C"
