// Calls of the emulated NCCL that run as one operation of a stream: one collective, or a group.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emulated/device/stream.h"

namespace facet::emulated {

enum class CallKind : int64_t { kAllGather, kBroadcast, kSend, kReceive, kEnd };

struct Call {
  CallKind kind;
  const char* from;  // null where nothing is sent
  char* to;          // null where nothing is received
  int64_t count;
  int64_t type;  // ncclDataType_t
  int64_t peer;  // the root of a broadcast; -1 of calls that have none
  Site where;

  bool pairwise() const { return kind == CallKind::kSend || kind == CallKind::kReceive; }
};

// A rank's calls as sent to the other ranks.
struct CallList {
  struct Entry {
    CallKind kind;
    int64_t count, type, peer;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> entries;
  std::string where;
};

class NcclCommunicator {
 public:
  NcclCommunicator(MPI_Comm comm, int rank, int size) : comm(comm), rank(rank), size(size) {}

  MPI_Comm comm;  // used for nothing else
  int rank, size;
  int64_t calls = 0;  // begun so far
  std::string failure;
  bool aborted = false;
  std::shared_ptr<EventRecord> latest;  // calls run in call order
};

class JointCalls final : public JointWork {
 public:
  JointCalls(std::shared_ptr<NcclCommunicator> comm, std::vector<Call> calls);
  ~JointCalls() override;

  void begin() override;
  bool arrived() override;
  void end() override;

 private:
  struct Message {
    std::vector<char> bytes;
    MPI_Request request = MPI_REQUEST_NULL;
    bool matched = false;
  };

  size_t bytes_of(const Call& call) const;
  void check_memory(const Call& call) const;
  void check_overlaps() const;
  void note_accesses() const;
  bool goes_to(const Call& call, int rank) const;
  bool comes_from(const Call& call, int rank) const;
  char* place_of(const Call& call, int rank) const;  // where data from that rank are received
  void pack(std::vector<char>& message, int rank) const;
  const char* unpack(const Message& message, CallList& calls) const;
  void compare(const std::vector<CallList>& calls) const;
  void deliver(const char* payload, int rank) const;
  [[noreturn]] void disagree(const std::vector<CallList>& calls, size_t a, size_t b) const;

  std::shared_ptr<NcclCommunicator> comm_;
  std::vector<Call> calls_;
  int64_t number_ = 0;
  std::vector<Message> sent_, received_;  // by rank
};

}  // namespace facet::emulated
