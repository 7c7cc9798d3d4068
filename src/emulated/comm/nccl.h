// The part of NCCL that the program calls, by NCCL's names, for the emulated build: over MPI. A
// broken rule ends in an Error that names the caller's line, so the calls return ncclSuccess.
//
// Why it cannot hang where NCCL would not. A call, or a group of calls, is joint work of its stream
// (emulated/device/stream.h): when its turn comes it hands its messages to MPI, and it is done when
// those of all other ranks have arrived. Neither half blocks. Whenever the host itself waits, for a
// stream or an event, in MPI (emulated/comm/mpi.cpp) or in a call of this file, it lets the device
// continue until nothing is left that other ranks could wait for, whatever the stream policy. So
// work begins on a rank as soon as everything before it in its stream, its events and its
// communicator is done, and a rank waits only for what a GPU would wait for: a cycle of waiting
// ranks here is a cycle there. This needs two things of the program: a rank that waits by other
// means than MPI and CUDA must not wait for other ranks, and every rank of a communicator must take
// part in each group of sends and receives.
//
// Why it hides no error. Every message begins with the full call as its rank made it, and every
// rank compares all of them before it delivers anything: a difference in operation, type, count,
// root or order is an error on every rank. Destroying a communicator is such a call too, so a call
// that one rank omits is noticed there. Send buffers are read when the work begins; receive buffers
// are undefined from then on, and filled when it ends.
#pragma once

#include <cstddef>

#include "emulated/device/cuda_runtime.h"

namespace facet::emulated {
class NcclCommunicator;
}  // namespace facet::emulated

using ncclComm_t = facet::emulated::NcclCommunicator*;

constexpr size_t NCCL_UNIQUE_ID_BYTES = 128;
struct ncclUniqueId {
  char internal[NCCL_UNIQUE_ID_BYTES];
};

// With NCCL's numbers.
enum ncclResult_t { ncclSuccess = 0, ncclRemoteError = 6 };
enum ncclDataType_t { ncclFloat16 = 6, ncclFloat32 = 7, ncclBfloat16 = 9 };

const char* ncclGetErrorString(ncclResult_t result);
const char* ncclGetLastError(ncclComm_t comm);

// Only rank 0 of the new communicator makes an id.
ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                              EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclCommDestroy(ncclComm_t comm, EmulatedSite where = EmulatedSite::current());
// Drops what is queued or in flight, without the other ranks.
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error);

ncclResult_t ncclAllGather(const void* sent, void* received, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream,
                           EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclBroadcast(const void* sent, void* received, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream,
                           EmulatedSite where = EmulatedSite::current());
// Only in groups, since two ranks that both send first would deadlock.
ncclResult_t ncclSend(const void* sent, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream,
                      EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclRecv(void* received, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream, EmulatedSite where = EmulatedSite::current());
// In the emulation a group has one communicator and one stream.
ncclResult_t ncclGroupStart();
ncclResult_t ncclGroupEnd(EmulatedSite where = EmulatedSite::current());
