// Streams of the emulated device: queues of operations. Only an event or a synchronisation
// guarantees that an operation has run, and a missing one must be noticed: the policy decides
// whether queued work runs at once, as late as the guarantees allow, or at random in between.
//
// Every operation also carries a vector clock of what is ordered before it, so that the race check
// can tell guaranteed order from order by chance.
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

// A vector clock: per stream, how many of its operations are known to be done.
class Clock {
 public:
  uint64_t at(uint32_t stream) const { return stream < counts_.size() ? counts_[stream] : 0; }
  void raise(uint32_t stream, uint64_t count);
  void join(const Clock& other);

 private:
  std::vector<uint64_t> counts_;
};

// Identifies an operation: the n-th of a stream.
struct OperationId {
  uint32_t stream = 0;
  uint64_t number = 0;  // from 1; 0 means the host
  bool operator==(const OperationId&) const = default;
};

class Stream;

// One recording of an event; recording it again makes a new one, which does not affect waits for
// the earlier one.
struct EventRecord {
  Stream* stream;
  Clock before;  // everything ordered before a waiter
  bool done = false;
  double milliseconds = 0;  // of the device's clock when it was done
};
struct Event {
  bool timed = false;
  std::shared_ptr<EventRecord> latest;
};

// Work that involves other processes: a collective. Nothing here blocks.
class JointWork {
 public:
  virtual ~JointWork() = default;
  virtual void begin() = 0;    // its turn in the stream has come: sends its part to the others
  virtual bool arrived() = 0;  // has everything from the others arrived?
  virtual void end() = 0;
};

struct Operation {
  const char* name;  // "launched", "copied", ...
  Site where;
  OperationId id;
  Clock before;  // everything ordered before this operation
  std::function<void()> work;
  std::shared_ptr<EventRecord> awaited;   // of a wait: blocked until this is done
  std::shared_ptr<EventRecord> recorded;  // done when this operation is
  std::shared_ptr<JointWork> joint;
  bool begun = false;  // the joint work
};

// A priority changes nothing: which work goes first is the policy's choice.
Stream* create_stream(int priority);
int priority_of(const Stream* stream);
// Runs what is still queued first, unless an exception unwinds the host: other processes may never
// do their part of it.
void destroy_stream(Stream* stream, Site where);
void enqueue(Stream* stream, const char* name, Site where, std::function<void()> work);
// Runs after the joint work that `after` records, an order that the clocks do not guarantee.
// Returns the record of this one.
std::shared_ptr<EventRecord> enqueue_joint(Stream* stream, const char* name, Site where,
                                           std::shared_ptr<JointWork> work,
                                           const std::shared_ptr<EventRecord>& after);
enum class Timing : uint8_t { kNo, kYes };
Event* create_event(Timing timing);
void destroy_event(Event* event, Site where);
void record_event(Event* event, Stream* stream, Site where);
void wait_event(Stream* stream, Event* event, Site where);

// What the host has asked of the device since the process began: kernels and matrix products, and
// synchronisations that found work to wait for.
struct HostCalls {
  int64_t launches = 0, waits = 0;
};
const HostCalls& host_calls();

void synchronize_stream(Stream* stream, Site where);
void synchronize_event(Event* event, Site where);
// Between two recordings that are done, of events with times.
double milliseconds_between(const Event* begin, const Event* end, Site where);
// The device's clock stands still but for this. Called by running operations.
void pass_time(double milliseconds);
// Does not wait; a caller that sees it done may rely on that order.
bool event_is_over(Event* event, Site where);
void synchronize_device();
void synchronize_record(const EventRecord& record);

// Called repeatedly while the host waits for other processes, in MPI or for joint work, so that the
// device continues as a real one would. Every stream runs up to its last joint work and no further:
// that is all that others can be waiting for.
void device_goes_on();

// Null while the host runs.
const Operation* running_operation();
// Is the operation guaranteed, not only by chance, to be done before the running one (or the host)?
bool ordered_before_running(OperationId id);

// Drops everything queued, after an error.
void drop_queued_operations();

}  // namespace facet::emulated
