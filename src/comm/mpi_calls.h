// What the files of this room that call MPI share.
#pragma once

#include <mpi.h>

#include <string>

#include "device/tensor.h"

namespace facet {

void check_mpi(int code, const char* call);

// What moves the elements of such a tensor without looking into them.
MPI_Datatype words_of(const Tensor& x);

std::string host_name();

}  // namespace facet
