#include "data/item_walk.h"

#include <algorithm>

#include "base/progress.h"
#include "base/timer.h"

namespace facet {

ItemWalk::ItemWalk(int64_t items, int64_t rank, int64_t ranks)
    : items_(items), rank_(rank), ranks_(ranks) {}

void ItemWalk::go_on(double seconds, const Look& look) {
  const Timer timer;
  const int64_t mine = (items_ - rank_ + ranks_ - 1) / ranks_;
#pragma omp parallel
  {
    PreparedSample scratch;
    bool more = true;
    while (more && timer.seconds() < seconds) {
      const int64_t i = next_++;
      more = i < mine;
      if (more) visit(rank_ + i * ranks_, scratch, look);
      note_progress();
    }
  }
  next_ = std::min(next_.load(), mine);
  if (failure_) std::rethrow_exception(failure_);
}

// No error may leave a thread.
void ItemWalk::visit(int64_t item, PreparedSample& scratch, const Look& look) {
  try {
    look(item, scratch);
    ++done_;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
}

}  // namespace facet
