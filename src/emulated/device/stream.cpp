#include "emulated/device/stream.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <string_view>
#include <thread>

#include "base/check.h"
#include "base/rng.h"
#include "emulated/device/memory.h"
#include "emulated/device/violation.h"

namespace facet::emulated {

class Stream {
 public:
  uint32_t number = 0;
  int priority = 0;
  uint64_t enqueued = 0;
  Clock before;  // everything ordered before the next operation
  std::deque<Operation> queue;
};

namespace {

// All streams of the process. Everything here is called by one thread, the host's.
class Engine {
 public:
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<std::pair<uint32_t, uint64_t>>
      free_numbers;  // of destroyed streams, with their counts
  uint32_t next_number = 1;
  Clock host;
  const Operation* running = nullptr;
  double milliseconds = 0;  // the device's clock

  void set_policy(StreamPolicy policy) {
    run_everything();
    lateness_ = policy.lateness;
    random_ = RandomStream(policy.seed, "streams");
  }

  Operation& append(Stream* stream, const char* name, Site where) {
    require(stream, where);
    stream->before.join(host);
    const OperationId id{stream->number, ++stream->enqueued};
    stream->queue.push_back({name, where, id, stream->before, {}, nullptr, nullptr, nullptr});
    stream->before.raise(id.stream, id.number);
    return stream->queue.back();
  }

  // After an operation was queued: runs what the policy wants before the host continues.
  void host_goes_on() {
    switch (lateness_) {
      case Lateness::kAtOnce:
        while (run_all_able()) {
        }
        return;
      case Lateness::kAsLateAsAllowed: return;
      case Lateness::kRandom:
        while (random_.below(2) == 0 && run_a_random_one()) {
        }
    }
  }

  void run_until_empty(Stream& stream) {
    while (!stream.queue.empty()) advance(stream);
  }

  void run_until(const EventRecord& record) {
    while (!record.done) advance(*record.stream);
  }

  void run_everything() {
    for (const auto& stream : streams) run_until_empty(*stream);
  }

  // While the host waits for other processes.
  void go_on() {
    bool ran = false;
    for (const auto& stream : streams)
      while (has_joint_work(*stream)) {
        Stream* able = able_towards(*stream);
        if (!able) break;
        run_head(*able);
        ran = true;
      }
    rounds_without_work_ = ran ? 0 : rounds_without_work_ + 1;
    if (rounds_without_work_ > kPatience)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    else if (!ran)
      std::this_thread::yield();
  }

  void require(const Stream* stream, Site where) const {
    const auto is_it = [=](const auto& s) { return s.get() == stream; };
    if (std::none_of(streams.begin(), streams.end(), is_it))
      violation(where, "{}",
                stream ? "this stream was destroyed"
                       : "the default stream is not used here: name a stream");
  }

 private:
  static constexpr int kPatience = 50;

  static bool blocked(const Operation& operation) {
    if (operation.awaited) return !operation.awaited->done;
    return operation.begun && !operation.joint->arrived();
  }
  static bool has_joint_work(const Stream& stream) {
    return std::any_of(stream.queue.begin(), stream.queue.end(),
                       [](const Operation& o) { return o.joint != nullptr; });
  }

  // The stream itself, or the one it waits for; null if that waits for other processes.
  static Stream* able_towards(Stream& stream) {
    Stream* s = &stream;
    for (;;) {
      ASSERT(!s->queue.empty(), "waiting for work that was dropped after an error");
      const Operation& head = s->queue.front();
      if (!blocked(head)) return s;
      if (!head.awaited) return nullptr;
      s = head.awaited->stream;
    }
  }

  // Runs one more operation, chosen by the policy; if none can run the host waits for other
  // processes.
  void advance(Stream& stream) {
    if (lateness_ == Lateness::kRandom) {
      if (!run_a_random_one()) go_on();
    } else if (Stream* able = able_towards(stream)) {
      run_head(*able);
    } else {
      go_on();
    }
  }

  bool run_all_able() {
    bool ran = false;
    for (const auto& stream : streams)
      while (!stream->queue.empty() && !blocked(stream->queue.front())) {
        run_head(*stream);
        ran = true;
      }
    return ran;
  }

  bool run_a_random_one() {
    std::vector<Stream*> able;
    for (const auto& s : streams)
      if (!s->queue.empty() && !blocked(s->queue.front())) able.push_back(s.get());
    if (able.empty()) return false;
    run_head(*able[random_.below(able.size())]);
    return true;
  }

  // Joint work stays at the head between its two halves.
  void run_head(Stream& stream) {
    Operation& head = stream.queue.front();
    if (head.joint && !head.begun) {
      head.begun = true;
      return run(head, [&] { head.joint->begin(); });
    }
    const Operation operation = std::move(head);
    stream.queue.pop_front();
    if (operation.joint) run(operation, [&] { operation.joint->end(); });
    if (operation.work) run(operation, operation.work);
    if (!operation.recorded) return;
    operation.recorded->done = true;
    operation.recorded->milliseconds = milliseconds;
  }

  template <typename Work>
  void run(const Operation& operation, const Work& work) {
    ASSERT(!running, "an operation inside an operation");
    running = &operation;
    try {
      OpenDeviceMemory open;
      work();
      check_device_guards();
    } catch (...) {
      running = nullptr;
      drop_queued_operations();
      throw;
    }
    running = nullptr;
  }

  int rounds_without_work_ = 0;
  Lateness lateness_ = Lateness::kAtOnce;
  RandomStream random_{1, "streams"};
};

HostCalls the_host_calls;

Engine& engine() {
  static Engine* const the_engine = new Engine;
  return *the_engine;
}

}  // namespace

void Clock::raise(uint32_t stream, uint64_t count) {
  if (stream >= counts_.size()) counts_.resize(stream + 1, 0);
  counts_[stream] = std::max(counts_[stream], count);
}

void Clock::join(const Clock& other) {
  for (uint32_t s = 0; s < other.counts_.size(); ++s) raise(s, other.counts_[s]);
}

void set_stream_policy(StreamPolicy policy) { engine().set_policy(policy); }

Stream* create_stream(int priority) {
  Engine& e = engine();
  e.streams.push_back(std::make_unique<Stream>());
  Stream* stream = e.streams.back().get();
  stream->priority = priority;
  if (e.free_numbers.empty()) {
    stream->number = e.next_number++;
  } else {
    std::tie(stream->number, stream->enqueued) = e.free_numbers.back();
    e.free_numbers.pop_back();
  }
  return stream;
}

int priority_of(const Stream* stream) { return stream->priority; }

void destroy_stream(Stream* stream, Site where) {
  Engine& e = engine();
  if (std::uncaught_exceptions() == 0) synchronize_stream(stream, where);
  for (const Operation& dropped : stream->queue)
    if (dropped.recorded) dropped.recorded->done = true;
  e.free_numbers.emplace_back(stream->number, stream->enqueued);
  std::erase_if(e.streams, [=](const auto& s) { return s.get() == stream; });
}

const HostCalls& host_calls() { return the_host_calls; }

void enqueue(Stream* stream, const char* name, Site where, std::function<void()> work) {
  const std::string_view what = name;
  the_host_calls.launches += what == "launched" || what == "multiplied";
  engine().append(stream, name, where).work = std::move(work);
  engine().host_goes_on();
}

std::shared_ptr<EventRecord> enqueue_joint(Stream* stream, const char* name, Site where,
                                           std::shared_ptr<JointWork> work,
                                           const std::shared_ptr<EventRecord>& after) {
  Engine& e = engine();
  if (after && !after->done) e.append(stream, name, where).awaited = after;
  Operation& operation = e.append(stream, name, where);
  operation.joint = std::move(work);
  const auto record = std::make_shared<EventRecord>(EventRecord{stream, stream->before});
  operation.recorded = record;
  e.host_goes_on();
  return record;
}

Event* create_event(Timing timing) { return new Event{timing == Timing::kYes, nullptr}; }

void destroy_event(Event* event, Site where) {
  if (!event) violation(where, "no event to destroy");
  delete event;
}

void record_event(Event* event, Stream* stream, Site where) {
  Operation& operation = engine().append(stream, "event recorded", where);
  const auto record = std::make_shared<EventRecord>(EventRecord{stream, stream->before});
  event->latest = record;
  operation.recorded = record;
  engine().host_goes_on();
}

void wait_event(Stream* stream, Event* event, Site where) {
  // CUDA treats this as complete; code that does so is a mistake.
  if (!event->latest) violation(where, "waits for an event that was never recorded");
  Operation& operation = engine().append(stream, "event awaited", where);
  operation.awaited = event->latest;
  stream->before.join(event->latest->before);
  engine().host_goes_on();
}

void synchronize_stream(Stream* stream, Site where) {
  Engine& e = engine();
  e.require(stream, where);
  the_host_calls.waits += !stream->queue.empty();
  e.run_until_empty(*stream);
  e.host.join(stream->before);
}

void synchronize_event(Event* event, Site where) {
  if (!event->latest) violation(where, "synchronises with an event that was never recorded");
  the_host_calls.waits += !event->latest->done;
  engine().run_until(*event->latest);
  engine().host.join(event->latest->before);
}

double milliseconds_between(const Event* begin, const Event* end, Site where) {
  for (const Event* event : {begin, end}) {
    if (!event->timed) violation(where, "the time of an event that was created without");
    if (!event->latest || !event->latest->done)
      violation(where, "the time of an event that has not come yet");
  }
  return end->latest->milliseconds - begin->latest->milliseconds;
}

void pass_time(double milliseconds) { engine().milliseconds += milliseconds; }

bool event_is_over(Event* event, Site where) {
  if (!event->latest) violation(where, "asks for an event that was never recorded");
  engine().host_goes_on();
  if (event->latest->done) engine().host.join(event->latest->before);
  return event->latest->done;
}

void synchronize_device() {
  Engine& e = engine();
  e.run_everything();
  for (const auto& stream : e.streams) e.host.join(stream->before);
}

void synchronize_record(const EventRecord& record) { engine().run_until(record); }

void device_goes_on() { engine().go_on(); }

const Operation* running_operation() { return engine().running; }

bool ordered_before_running(OperationId id) {
  const Engine& e = engine();
  const Clock& now = e.running ? e.running->before : e.host;
  return id.number == 0 || now.at(id.stream) >= id.number;
}

void drop_queued_operations() {
  for (const auto& stream : engine().streams) stream->queue.clear();
}

}  // namespace facet::emulated
