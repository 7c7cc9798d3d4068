// Helpers of the files here that call MPI.
#pragma once

#include <mpi.h>

#include <string>

#include "device/tensor.h"

namespace facet {

void check_mpi(int code, const char* call);

// An MPI type of the size of the tensor's elements, to move them without interpreting them.
MPI_Datatype words_of(const Tensor& x);

// As MPI has it; FACET_HOSTNAME, where it is set, lets one machine play several hosts.
std::string host_name();

}  // namespace facet
