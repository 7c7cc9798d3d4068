#include "comm/split.h"

#include "comm/mpi_calls.h"

namespace facet {

std::unique_ptr<Communicator> split(const Communicator& world, int part) {
  MPI_Comm mine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(world.handle(), part < 0 ? MPI_UNDEFINED : part, world.rank(), &mine),
            "MPI_Comm_split");
  if (mine == MPI_COMM_NULL) return nullptr;
  auto made = std::make_unique<Communicator>(mine);  // a copy of its own
  check_mpi(MPI_Comm_free(&mine), "MPI_Comm_free");
  return made;
}

}  // namespace facet
