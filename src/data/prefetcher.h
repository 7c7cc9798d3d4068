// Prepares samples ahead of time on host threads and delivers them in the order of the requests.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

struct SampleRequest {
  Split split = Split::kTraining;
  int64_t epoch = 0;
  int64_t sample = 0;  // index in the split

  bool operator==(const SampleRequest&) const = default;
};

class Prefetcher {
 public:
  using Prepare = std::function<void(const SampleRequest&, PreparedSample&)>;
  // Returns the next request, or nothing at the end.
  using Sequence = std::function<std::optional<SampleRequest>()>;

  struct Slot {
    SampleRequest request;
    PreparedSample sample;
    std::exception_ptr failure;  // what `prepare` threw for this request
    bool ready = false;
  };

  // At most `capacity` samples are prepared or being prepared beside the one that next() gave. With
  // 0 workers next() does the work itself. Error(kSystem) if a thread can't start.
  Prefetcher(Prepare prepare, int64_t num_workers, int64_t capacity);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Drops prepared samples and begins another sequence.
  void restart(Sequence sequence);
  // Goes on with this sequence after those before it.
  void append(Sequence sequence);
  // The next sample of the sequence, valid until the next call. Calling it past the end is a bug.
  const Slot& next();

 private:
  void work();
  void stop_workers();
  // Takes the next request, if there is one and a free slot.
  Slot* take_request();
  void fill(Slot& slot) const;

  Prepare prepare_;
  std::deque<Sequence> sequences_;  // not yet at their end
  std::vector<Slot> slots_;         // a ring: request i uses slot i % slots
  int64_t issued_ = 0;              // requests taken by workers
  int64_t consumed_ = 0;            // requests the caller is done with
  int64_t busy_ = 0;                // workers inside fill()
  bool holding_ = false;            // the caller is still reading slot consumed_
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable room_;   // for workers
  std::condition_variable ready_;  // for the caller
  std::vector<std::jthread> workers_;
};

}  // namespace facet
