#include "data/prefetcher.h"

#include "base/check.h"
#include "base/start_thread.h"

namespace facet {

Prefetcher::Prefetcher(Prepare prepare, int64_t num_workers, int64_t capacity)
    : prepare_(std::move(prepare)), slots_(static_cast<size_t>(capacity) + 1) {
  workers_.reserve(static_cast<size_t>(num_workers));
  try {
    for (int64_t i = 0; i < num_workers; ++i)
      workers_.push_back(start_thread("reading samples ahead",
                                      [this] { return std::jthread([this] { work(); }); }));
  } catch (...) {
    stop_workers();
    throw;
  }
}

Prefetcher::~Prefetcher() { stop_workers(); }

// They must know before they are joined.
void Prefetcher::stop_workers() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  room_.notify_all();
}

void Prefetcher::restart(Sequence sequence) {
  std::unique_lock lock(mutex_);
  sequences_.clear();
  ready_.wait(lock, [this] { return busy_ == 0; });
  if (sequence) sequences_.push_back(std::move(sequence));
  issued_ = consumed_ = 0;
  holding_ = false;
  room_.notify_all();
}

void Prefetcher::append(Sequence sequence) {
  const std::lock_guard lock(mutex_);
  sequences_.push_back(std::move(sequence));
  room_.notify_all();
}

const Prefetcher::Slot& Prefetcher::next() {
  std::unique_lock lock(mutex_);
  if (holding_) ++consumed_;
  holding_ = true;
  Slot& slot = slots_[static_cast<size_t>(consumed_) % slots_.size()];
  if (workers_.empty()) {
    ASSERT(take_request() != nullptr, "a sample past the end of the sequence was requested");
    fill(slot);
    return slot;
  }
  room_.notify_all();
  ready_.wait(lock, [&] { return issued_ > consumed_ ? slot.ready : sequences_.empty(); });
  ASSERT(issued_ > consumed_, "a sample past the end of the sequence was requested");
  return slot;
}

Prefetcher::Slot* Prefetcher::take_request() {
  if (issued_ == consumed_ + static_cast<int64_t>(slots_.size())) return nullptr;
  std::optional<SampleRequest> request;
  while (!request && !sequences_.empty()) {
    request = sequences_.front()();
    if (!request) sequences_.pop_front();
  }
  if (!request) {
    ready_.notify_all();
    return nullptr;
  }
  Slot& slot = slots_[static_cast<size_t>(issued_++) % slots_.size()];
  slot.request = *request;
  slot.failure = nullptr;
  slot.ready = false;
  return &slot;
}

void Prefetcher::fill(Slot& slot) const {
  try {
    prepare_(slot.request, slot.sample);
  } catch (...) {
    slot.failure = std::current_exception();
  }
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    Slot* slot = nullptr;
    room_.wait(lock, [&] { return stop_ || (slot = take_request()) != nullptr; });
    if (stop_) return;
    ++busy_;
    lock.unlock();
    fill(*slot);
    lock.lock();
    --busy_;
    slot->ready = true;
    ready_.notify_all();
  }
}

}  // namespace facet
