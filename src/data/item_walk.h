// A walk over numbered items, such as all records: each is looked at once, on one of the ranks and
// one of its threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>

#include "data/sample_builder.h"

namespace facet {

// This rank's share: every ranks-th item.
class ItemWalk {
 public:
  // Called on several threads at once; the scratch is the thread's own.
  using Look = std::function<void(int64_t item, PreparedSample& scratch)>;

  ItemWalk(int64_t items, int64_t rank, int64_t ranks);

  int64_t num_items() const { return items_; }  // of all ranks
  int64_t done() const { return done_; }        // of this rank

  // Looks at more of this rank's items for about that long, on all threads. What `look` throws is
  // thrown once all threads have stopped.
  void go_on(double seconds, const Look& look);

 private:
  void visit(int64_t item, PreparedSample& scratch, const Look& look);

  int64_t items_, rank_, ranks_;
  std::atomic<int64_t> next_{0}, done_{0};
  std::mutex mutex_;  // of the failure
  std::exception_ptr failure_;
};

}  // namespace facet
