// Streams of the emulated device: queues of operations. Nothing but an event or a synchronisation
// promises that an operation has run, so one that is missing must show: the policy decides whether
// queued work runs at once, as late as the promises allow, or somewhere between by a seed.
//
// Besides running the work, every operation carries the clock of what is ordered before it, so that
// the race check can tell an order that is promised from one that happened.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "emulated/device/site.h"

namespace facet::emulated {

enum class Lateness : uint8_t { kAtOnce, kAsLateAsAllowed, kRandom };

struct StreamPolicy {
  Lateness lateness = Lateness::kAtOnce;
  uint64_t seed = 1;  // of kRandom
};
void set_stream_policy(StreamPolicy policy);

// By the number of a stream: how many of its operations are known to be over.
class Clock {
 public:
  uint64_t at(uint32_t stream) const { return stream < counts_.size() ? counts_[stream] : 0; }
  void raise(uint32_t stream, uint64_t count);
  void join(const Clock& other);

 private:
  std::vector<uint64_t> counts_;
};

// An operation's name for others: the n-th of a stream.
struct OperationId {
  uint32_t stream = 0;
  uint64_t number = 0;  // from 1; 0 stands for the host
  bool operator==(const OperationId&) const = default;
};

class Stream;

// One record of an event; an event that is recorded again gets another, and who waits for the
// earlier one is not concerned.
struct EventRecord {
  Stream* stream;
  Clock before;  // what is ordered before whoever waits
  bool done = false;
};
struct Event {
  std::shared_ptr<EventRecord> latest;
};

// Work in which other processes take part: a collective. Nothing here waits.
class JointWork {
 public:
  virtual ~JointWork() = default;
  virtual void begin() = 0;    // its turn in the stream has come: hands its part to the others
  virtual bool arrived() = 0;  // have the others done theirs?
  virtual void end() = 0;
};

struct Operation {
  const char* name;  // "launched", "copied", ...
  Site where;
  OperationId id;
  Clock before;  // what is ordered before this operation
  std::function<void()> work;
  std::shared_ptr<EventRecord> awaited;   // of a wait, which is blocked until it is done
  std::shared_ptr<EventRecord> recorded;  // done with this operation
  std::shared_ptr<JointWork> joint;
  bool begun = false;  // the joint work
};

Stream* create_stream();
// What is still queued is run first, unless an error unwinds the host: others may never do their
// part of it.
void destroy_stream(Stream* stream, Site where);
void enqueue(Stream* stream, const char* name, Site where, std::function<void()> work);
// Also behind the joint work that `behind` records, though nobody is promised that order. Returns
// the record of this one.
std::shared_ptr<EventRecord> enqueue_joint(Stream* stream, const char* name, Site where,
                                           std::shared_ptr<JointWork> work,
                                           const std::shared_ptr<EventRecord>& behind);
Event* create_event();
void destroy_event(Event* event, Site where);
void record_event(Event* event, Stream* stream, Site where);
void wait_event(Stream* stream, Event* event, Site where);

void synchronize_stream(Stream* stream, Site where);
void synchronize_event(Event* event, Site where);
// Does not wait; a caller that sees it over knows what that promises.
bool event_is_over(Event* event, Site where);
void synchronize_device();
void synchronize_record(const EventRecord& record);

// The host waits for other processes, in MPI or for joint work, and calls this again and again: the
// device goes on meanwhile, as a real one would. Every stream runs as far as its last joint work,
// and no further: that is all that others can be waiting for.
void device_goes_on();

// Null while the host runs.
const Operation* running_operation();
// Is the operation over before the running one (or the host) by a promise, not by chance?
bool ordered_before_running(OperationId id);

// Drops everything that is queued: after an error.
void drop_queued_operations();

}  // namespace facet::emulated
