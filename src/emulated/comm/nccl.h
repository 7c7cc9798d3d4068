// The part of NCCL that the program calls, by NCCL's names, for the emulated build: over MPI. A
// broken rule ends in an Error that names the caller's line, so the calls return ncclSuccess.
//
// Why it cannot hang where NCCL would not. A call, or a group of them, is joint work of its stream
// (emulated/device/stream.h): when its turn comes it hands its messages to MPI, and it is over when
// those of all other ranks are here. Neither half waits. Whenever the host itself waits, for a
// stream or an event, in MPI (emulated/mpi.cpp) or in a call of this file, it lets the device go on
// until nothing is left that others could wait for, whatever the policy of the streams. So work
// begins on a rank as soon as what is before it in its stream, behind its events and in its
// communicator is over, and a rank waits only for what a GPU would wait for: a circle of waiting
// ranks here is one there. Two things are asked of the program: a rank that waits by other means
// than MPI and CUDA doesn't wait for other ranks, and every rank of a communicator takes part in
// each group of sends and receives.
//
// Why it hides no error. Every message begins with the whole call as its rank sees it, and every
// rank compares all of them before it delivers anything: another operation, type, count, root or
// order ends in an error on every rank. The end of a communicator is such a call too, so a call
// that one rank leaves out meets it there. What is sent is read when the work begins; what is
// received is undefined from then on, and delivered when it ends.
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

// Only rank 0 of the communicator to be makes an id.
ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                              EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclCommDestroy(ncclComm_t comm, EmulatedSite where = EmulatedSite::current());
// What is still queued or under way is dropped; the other ranks are not asked.
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error);

ncclResult_t ncclAllGather(const void* sent, void* received, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream,
                           EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclBroadcast(const void* sent, void* received, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream,
                           EmulatedSite where = EmulatedSite::current());
// In groups only, as a pair of ranks that both send first would wait for each other.
ncclResult_t ncclSend(const void* sent, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream,
                      EmulatedSite where = EmulatedSite::current());
ncclResult_t ncclRecv(void* received, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream, EmulatedSite where = EmulatedSite::current());
// A group has one communicator and one stream here.
ncclResult_t ncclGroupStart();
ncclResult_t ncclGroupEnd(EmulatedSite where = EmulatedSite::current());
