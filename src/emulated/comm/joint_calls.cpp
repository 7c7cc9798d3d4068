#include "emulated/comm/joint_calls.h"

#include <array>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "emulated/comm/nccl.h"
#include "emulated/device/memory.h"
#include "emulated/device/observer.h"
#include "emulated/device/violation.h"

namespace facet::emulated {
namespace {

constexpr int kTag = 1;

size_t size_of_type(int64_t type) { return type == ncclFloat32 ? 4 : 2; }

const char* name_of_type(int64_t type) {
  return type == ncclFloat32 ? "fp32" : type == ncclFloat16 ? "fp16" : "bf16";
}

std::string describe(const CallList::Entry& e) {
  const std::string elements = fmt::format("{} {}", e.count, name_of_type(e.type));
  switch (e.kind) {
    case CallKind::kAllGather: return "gathers " + elements + " of each rank";
    case CallKind::kBroadcast: return fmt::format("broadcasts {} from rank {}", elements, e.peer);
    case CallKind::kSend: return fmt::format("sends {} to rank {}", elements, e.peer);
    case CallKind::kReceive: return fmt::format("receives {} from rank {}", elements, e.peer);
    case CallKind::kEnd: break;
  }
  return "ends the communicator";
}

std::string describe(const CallList& calls) {
  std::string text;
  for (const CallList::Entry& entry : calls.entries)
    text += (text.empty() ? "" : ", ") + describe(entry);
  return text + " (" + calls.where + ")";
}

template <typename T>
void append(std::vector<char>& message, const T* values, size_t count) {
  const auto* bytes = reinterpret_cast<const char*>(values);
  message.insert(message.end(), bytes, bytes + count * sizeof(T));
}

template <typename T>
const char* take(const char* from, T* values, size_t count) {
  std::memcpy(values, from, count * sizeof(T));
  return from + count * sizeof(T);
}

// What a rank sends to a peer or receives from it, in a form that both sides can compare.
std::vector<CallList::Entry> pairwise_entries(const CallList& calls, CallKind kind, int64_t peer) {
  std::vector<CallList::Entry> found;
  for (const CallList::Entry& e : calls.entries)
    if (e.kind == kind && e.peer == peer) found.push_back({CallKind::kSend, e.count, e.type, 0});
  return found;
}

std::vector<CallList::Entry> common_entries(const CallList& calls) {
  std::vector<CallList::Entry> found;
  for (const CallList::Entry& e : calls.entries)
    if (e.kind != CallKind::kSend && e.kind != CallKind::kReceive) found.push_back(e);
  return found;
}

bool overlap(const char* a, size_t a_bytes, const char* b, size_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

JointCalls::JointCalls(std::shared_ptr<NcclCommunicator> comm, std::vector<Call> calls)
    : comm_(std::move(comm)), calls_(std::move(calls)) {}

// After an error MPI may still use the messages, so they are leaked.
JointCalls::~JointCalls() {
  for (std::vector<Message>* messages : {&sent_, &received_})
    for (Message& m : *messages)
      if (m.request != MPI_REQUEST_NULL)
        static_cast<void>(new std::vector<char>(std::move(m.bytes)));
}

size_t JointCalls::bytes_of(const Call& call) const {
  return static_cast<size_t>(call.count) * size_of_type(call.type);
}

bool JointCalls::goes_to(const Call& call, int rank) const {
  switch (call.kind) {
    case CallKind::kAllGather: return true;
    case CallKind::kBroadcast: return call.peer == comm_->rank;
    case CallKind::kSend: return call.peer == rank;
    default: return false;
  }
}

bool JointCalls::comes_from(const Call& call, int rank) const {
  switch (call.kind) {
    case CallKind::kAllGather: return true;
    case CallKind::kBroadcast:
    case CallKind::kReceive: return call.peer == rank;
    default: return false;
  }
}

char* JointCalls::place_of(const Call& call, int rank) const {
  const size_t part = call.kind == CallKind::kAllGather ? static_cast<size_t>(rank) : 0;
  return call.to + part * bytes_of(call);
}

// ---- begin

void JointCalls::check_memory(const Call& call) const {
  const size_t bytes = bytes_of(call);
  for (int r = 0; r < comm_->size; ++r) {
    if (goes_to(call, r)) check_device_range(call.from, bytes, "what is sent", call.where);
    if (comes_from(call, r))
      check_device_range(place_of(call, r), bytes, "what is received", call.where);
  }
}

// Memory that is received into must not overlap anything else, except a rank's own part.
void JointCalls::check_overlaps() const {
  struct Place {
    const Call* call;
    const char* begin;
    bool own;
  };
  std::vector<Place> read, written;
  for (const Call& call : calls_)
    for (int r = 0; r < comm_->size; ++r) {
      if (comes_from(call, r)) written.push_back({&call, place_of(call, r), r == comm_->rank});
      if (goes_to(call, r) && r == comm_->rank) read.push_back({&call, call.from, true});
    }
  const auto meet = [&](const Place& a, const Place& b) {
    return overlap(a.begin, bytes_of(*a.call), b.begin, bytes_of(*b.call));
  };
  for (size_t i = 0; i < written.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      if (meet(written[i], written[j]))
        violation(written[i].call->where, "two calls of a group receive into the same memory");
    for (const Place& r : read)
      if (meet(written[i], r) &&
          !(written[i].own && r.call == written[i].call && r.begin == written[i].begin))
        violation(written[i].call->where, "receives into memory that is sent");
  }
}

void JointCalls::note_accesses() const {
  for (const Call& call : calls_) {
    const size_t bytes = bytes_of(call);
    if (call.from && observer())
      observer()->operation_access(call.from, bytes, Access::kRead, call.where);
  }
  for (const Call& call : calls_)
    for (int r = 0; r < comm_->size; ++r) {
      if (!comes_from(call, r) || place_of(call, r) == call.from) continue;
      if (observer())
        observer()->operation_access(place_of(call, r), bytes_of(call), Access::kWrite, call.where);
      forget_content(place_of(call, r), bytes_of(call));
    }
}

// number, calls, line; then the payload for that rank
void JointCalls::pack(std::vector<char>& message, int rank) const {
  const std::string where = text_of(calls_.front().where);
  const std::array<int64_t, 3> sizes = {number_, static_cast<int64_t>(calls_.size()),
                                        static_cast<int64_t>(where.size())};
  append(message, sizes.data(), sizes.size());
  for (const Call& call : calls_) {
    const CallList::Entry entry{call.kind, call.count, call.type, call.peer};
    append(message, &entry, 1);
  }
  append(message, where.data(), where.size());
  for (const bool pairwise : {false, true})  // the order in which deliver() takes them
    for (const Call& call : calls_)
      if (call.pairwise() == pairwise && goes_to(call, rank))
        append(message, call.from, bytes_of(call));
}

void JointCalls::begin() {
  if (comm_->aborted) return;
  for (const Call& call : calls_) check_memory(call);
  check_overlaps();
  number_ = ++comm_->calls;
  sent_.resize(static_cast<size_t>(comm_->size));
  received_.resize(sent_.size());
  for (int r = 0; r < comm_->size; ++r) {
    const auto at = static_cast<size_t>(r);
    if (r == comm_->rank) {
      pack(received_[at].bytes, r);
      received_[at].matched = true;
      continue;
    }
    pack(sent_[at].bytes, r);
    ASSERT(sent_[at].bytes.size() <= std::numeric_limits<int>::max(), "a message of {} bytes",
           sent_[at].bytes.size());
    PMPI_Isend(sent_[at].bytes.data(), static_cast<int>(sent_[at].bytes.size()), MPI_BYTE, r, kTag,
               comm_->comm, &sent_[at].request);
  }
  note_accesses();
}

// ---- while in flight

bool JointCalls::arrived() {
  if (comm_->aborted) return true;
  bool all = true;
  const auto test = [&](Message& message) {
    int over = 0;
    PMPI_Test(&message.request, &over, MPI_STATUS_IGNORE);
    all = all && over;
  };
  for (size_t r = 0; r < sent_.size(); ++r) {
    Message& message = received_[r];
    if (!message.matched) {
      int there = 0, bytes = 0;
      MPI_Message handle;
      MPI_Status status;
      PMPI_Improbe(static_cast<int>(r), kTag, comm_->comm, &there, &handle, &status);
      if (there) {
        PMPI_Get_count(&status, MPI_BYTE, &bytes);
        message.bytes.resize(static_cast<size_t>(bytes));
        PMPI_Imrecv(message.bytes.data(), bytes, MPI_BYTE, &handle, &message.request);
        message.matched = true;
      } else {
        all = false;
      }
    }
    test(sent_[r]);
    test(message);
  }
  return all;
}

// ---- end

// Returns the offset of the payload.
const char* JointCalls::unpack(const Message& message, CallList& calls) const {
  std::array<int64_t, 3> sizes;
  const char* p = take(message.bytes.data(), sizes.data(), sizes.size());
  ASSERT(sizes[0] == number_, "message {} instead of {}", sizes[0], number_);
  calls.entries.resize(static_cast<size_t>(sizes[1]));
  p = take(p, calls.entries.data(), calls.entries.size());
  calls.where.resize(static_cast<size_t>(sizes[2]));
  return take(p, calls.where.data(), calls.where.size());
}

void JointCalls::disagree(const std::vector<CallList>& calls, size_t a, size_t b) const {
  comm_->failure =
      fmt::format("call {} of this communicator differs between the ranks: rank {} {}, rank {} {}",
                  number_, a, describe(calls[a]), b, describe(calls[b]));
  violation(calls_.front().where, "{}", comm_->failure);
}

// Every rank compares all messages, so that all fail with the same error.
void JointCalls::compare(const std::vector<CallList>& calls) const {
  const auto me = static_cast<size_t>(comm_->rank);
  const auto common = common_entries(calls[me]);
  for (size_t r = 0; r < calls.size(); ++r)
    if (common_entries(calls[r]) != common) disagree(calls, me, r);
  for (size_t from = 0; from < calls.size(); ++from)
    for (size_t to = 0; to < calls.size(); ++to)
      if (pairwise_entries(calls[from], CallKind::kSend, static_cast<int64_t>(to)) !=
          pairwise_entries(calls[to], CallKind::kReceive, static_cast<int64_t>(from)))
        disagree(calls, from, to);
}

void JointCalls::deliver(const char* payload, int rank) const {
  for (const bool pairwise : {false, true})
    for (const Call& call : calls_) {
      if (call.pairwise() != pairwise || !comes_from(call, rank)) continue;
      char* const place = place_of(call, rank);
      const size_t bytes = bytes_of(call);
      const bool there_already = rank == comm_->rank && place == call.from;
      if (bytes > 0 && !there_already) std::memcpy(place, payload, bytes);
      if (observer() && !there_already) observer()->all_defined(place, bytes);
      payload += bytes;
    }
}

void JointCalls::end() {
  if (comm_->aborted) return;
  std::vector<CallList> calls(received_.size());
  std::vector<const char*> payloads;
  for (size_t r = 0; r < received_.size(); ++r) payloads.push_back(unpack(received_[r], calls[r]));
  compare(calls);
  for (size_t r = 0; r < received_.size(); ++r) deliver(payloads[r], static_cast<int>(r));
}

}  // namespace facet::emulated
