#include "emulated/comm/nccl.h"

#include <mpi.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/check.h"
#include "emulated/comm/joint_calls.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"

namespace emulated = facet::emulated;
using emulated::Call, emulated::CallKind, emulated::JointCalls, emulated::NcclCommunicator,
    emulated::violation;

namespace {

// The content of an ncclUniqueId.
struct Meeting {
  int64_t magic = 0x6661636574;
  int host;  // rank in MPI_COMM_WORLD that made the id
  int tag;   // of this meeting's messages
};
constexpr int kFirstTag = 20000, kTags = 10000;

std::map<ncclComm_t, std::shared_ptr<NcclCommunicator>>& communicators() {
  static auto* const all = new std::map<ncclComm_t, std::shared_ptr<NcclCommunicator>>;
  return *all;
}

std::shared_ptr<NcclCommunicator> find(ncclComm_t comm, EmulatedSite where) {
  const auto found = communicators().find(comm);
  if (found == communicators().end()) violation(where, "this communicator is not alive");
  const std::shared_ptr<NcclCommunicator>& it = found->second;
  if (!it->failure.empty())
    violation(where, "this communicator has failed and can only be aborted: {}", it->failure);
  return it;
}

// ---- groups

struct Group {
  int depth = 0;
  std::vector<Call> calls;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};
Group group;

const char* name_of(const std::vector<Call>& calls) {
  if (calls.size() > 1 || calls[0].pairwise()) return "group called";
  return calls[0].kind == CallKind::kAllGather ? "ncclAllGather called" : "ncclBroadcast called";
}

// Otherwise a rank might wait here for one that takes no part in the group.
void check_all_take_part(const NcclCommunicator& comm, const std::vector<Call>& calls) {
  std::vector<bool> named(static_cast<size_t>(comm.size), false);
  for (const Call& call : calls) {
    if (!call.pairwise()) return;
    named[static_cast<size_t>(call.peer)] = true;
  }
  for (int r = 0; r < comm.size; ++r)
    if (r != comm.rank && !named[static_cast<size_t>(r)])
      violation(calls[0].where,
                "the group neither sends to nor receives from rank {}: the emulated NCCL needs "
                "every rank in each group",
                r);
}

void enqueue(ncclComm_t handle, std::vector<Call> calls, cudaStream_t stream) {
  const EmulatedSite where = calls[0].where;
  const std::shared_ptr<NcclCommunicator> comm = find(handle, where);
  const char* const name = name_of(calls);
  auto work = std::make_shared<JointCalls>(comm, std::move(calls));
  comm->latest = emulated::enqueue_joint(stream, name, where, std::move(work), comm->latest);
}

void add_call(ncclComm_t comm, const Call& call, cudaStream_t stream) {
  const std::shared_ptr<NcclCommunicator> its = find(comm, call.where);
  if (call.kind != CallKind::kAllGather && (call.peer < 0 || call.peer >= its->size))
    violation(call.where, "rank {} of a communicator of {}", call.peer, its->size);
  if (group.depth == 0) {
    if (call.pairwise()) violation(call.where, "ncclSend and ncclRecv must be in groups");
    return enqueue(comm, {call}, stream);
  }
  if (!group.calls.empty() && (group.comm != comm || group.stream != stream))
    violation(call.where, "a group has one communicator and one stream here");
  group.comm = comm;
  group.stream = stream;
  group.calls.push_back(call);
}

Call make_call(CallKind kind, const void* from, void* to, size_t count, ncclDataType_t type,
               int peer, EmulatedSite where) {
  return {kind,
          static_cast<const char*>(from),
          static_cast<char*>(to),
          static_cast<int64_t>(count),
          type,
          peer,
          where};
}

// ---- communicators

void receive(void* data, int bytes, int source, int tag) {
  for (int there = 0; !there;) {
    PMPI_Iprobe(source, tag, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
    if (!there) emulated::device_goes_on();
  }
  PMPI_Recv(data, bytes, MPI_BYTE, source, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

struct Arrival {
  int rank, size, world_rank;
};

// World ranks in the order of the new communicator, collected by rank 0. Empty if the ranks'
// arguments contradict each other.
std::vector<int> host_meeting(const Meeting& meeting, const Arrival& mine) {
  std::vector<int> members(static_cast<size_t>(mine.size), -1);
  members[0] = mine.world_rank;
  bool fits = true;
  for (int i = 1; i < mine.size; ++i) {
    Arrival other;
    receive(&other, sizeof other, MPI_ANY_SOURCE, meeting.tag);
    fits = fits && other.size == mine.size && other.rank > 0 && other.rank < mine.size &&
           members[static_cast<size_t>(other.rank)] < 0;
    // A caller with an impossible rank must get an answer too.
    members[static_cast<size_t>(fits ? other.rank : i)] = other.world_rank;
  }
  std::vector<int> answer = members;
  if (!fits) answer[0] = -1;
  for (int i = 1; i < mine.size; ++i)
    PMPI_Send(answer.data(), mine.size * static_cast<int>(sizeof(int)), MPI_BYTE,
              members[static_cast<size_t>(i)], meeting.tag, MPI_COMM_WORLD);
  return answer;
}

std::vector<int> join_meeting(const Meeting& meeting, const Arrival& mine) {
  PMPI_Send(&mine, sizeof mine, MPI_BYTE, meeting.host, meeting.tag, MPI_COMM_WORLD);
  std::vector<int> members(static_cast<size_t>(mine.size), -1);
  receive(members.data(), mine.size * static_cast<int>(sizeof(int)), meeting.host, meeting.tag);
  return members;
}

// Waits for queued work and for the other ranks.
void end(const std::shared_ptr<NcclCommunicator>& comm, EmulatedSite where) {
  if (comm->latest) emulated::synchronize_record(*comm->latest);
  JointCalls last(comm, {make_call(CallKind::kEnd, nullptr, nullptr, 0, ncclFloat32, -1, where)});
  last.begin();
  while (!last.arrived()) emulated::device_goes_on();
  last.end();
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : "remote process exited or there was a network error";
}

const char* ncclGetLastError(ncclComm_t comm) {
  const auto found = communicators().find(comm);
  return found == communicators().end() ? "" : found->second->failure.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int made = 0;
  Meeting meeting;
  PMPI_Comm_rank(MPI_COMM_WORLD, &meeting.host);
  meeting.tag = kFirstTag + made++ % kTags;
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, &meeting, sizeof meeting);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                              EmulatedSite where) {
  Meeting meeting;
  std::memcpy(&meeting, id.internal, sizeof meeting);
  if (meeting.magic != Meeting{}.magic) violation(where, "this id was not made by ncclGetUniqueId");
  Arrival mine{rank, ranks, 0};
  PMPI_Comm_rank(MPI_COMM_WORLD, &mine.world_rank);
  if ((rank == 0) != (mine.world_rank == meeting.host))
    violation(where, "only rank 0 of a communicator makes its id");
  const std::vector<int> members =
      rank == 0 ? host_meeting(meeting, mine) : join_meeting(meeting, mine);
  if (members[0] < 0)
    violation(where, "the ranks disagree about their number, or two are rank {}", rank);
  MPI_Group world, of_members;
  MPI_Comm made = MPI_COMM_NULL;
  PMPI_Comm_group(MPI_COMM_WORLD, &world);
  PMPI_Group_incl(world, ranks, members.data(), &of_members);
  PMPI_Comm_create_group(MPI_COMM_WORLD, of_members, meeting.tag, &made);
  PMPI_Group_free(&of_members);
  PMPI_Group_free(&world);
  const auto it = std::make_shared<NcclCommunicator>(made, rank, ranks);
  communicators()[it.get()] = it;
  *comm = it.get();
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm, EmulatedSite where) {
  const std::shared_ptr<NcclCommunicator> it = find(comm, where);
  end(it, where);
  PMPI_Comm_free(&it->comm);
  communicators().erase(comm);
  return ncclSuccess;
}

// The MPI communicator is leaked: freeing it would need all ranks.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const auto found = communicators().find(comm);
  if (found == communicators().end()) return ncclSuccess;
  found->second->aborted = true;
  communicators().erase(found);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const auto found = communicators().find(comm);
  const bool well = found != communicators().end() && found->second->failure.empty();
  *error = well ? ncclSuccess : ncclRemoteError;
  return ncclSuccess;
}

ncclResult_t ncclAllGather(const void* sent, void* received, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream, EmulatedSite where) {
  add_call(comm, make_call(CallKind::kAllGather, sent, received, count, type, -1, where), stream);
  return ncclSuccess;
}

ncclResult_t ncclBroadcast(const void* sent, void* received, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream, EmulatedSite where) {
  const bool sends = find(comm, where)->rank == root;  // NCCL looks at `sent` only there
  add_call(
      comm,
      make_call(CallKind::kBroadcast, sends ? sent : nullptr, received, count, type, root, where),
      stream);
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* sent, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream, EmulatedSite where) {
  add_call(comm, make_call(CallKind::kSend, sent, nullptr, count, type, peer, where), stream);
  return ncclSuccess;
}

ncclResult_t ncclRecv(void* received, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream, EmulatedSite where) {
  add_call(comm, make_call(CallKind::kReceive, nullptr, received, count, type, peer, where),
           stream);
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(EmulatedSite where) {
  if (group.depth == 0) violation(where, "ends a group that was not started");
  if (--group.depth > 0 || group.calls.empty()) return ncclSuccess;
  std::vector<Call> calls;
  calls.swap(group.calls);
  check_all_take_part(*find(group.comm, where), calls);
  enqueue(group.comm, std::move(calls), group.stream);
  return ncclSuccess;
}
