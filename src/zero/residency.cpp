#include "zero/residency.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace facet {

Residency::Residency(std::vector<int64_t> elements, const ResidencyLimits& limits,
                     UnitGatherer& gatherer)
    : elements_(std::move(elements)),
      limits_(limits),
      gatherer_(gatherer),
      uses_(elements_.size()),
      prefetched_(elements_.size()),
      next_use_(2 * elements_.size(), -1),
      order_(2 * elements_.size(), -1) {
  to_prefetch_.reserve(elements_.size());
}

void Residency::acquire(int unit, Phase phase) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0 || uses_[u]++ > 0) return;
  const int use = use_of(unit, phase);
  record_use(use);
  if (prefetched_[u])
    gatherer_.finish_gather(unit);
  else
    gatherer_.gather(unit);
  prefetched_[u] = false;
  if (limits_.prefetch_elements == 0) return expect_next(use);
  choose_prefetch(use);
  start_prefetch();
}

void Residency::record_use(int use) {
  if (previous_ >= 0) next_use_[static_cast<size_t>(previous_)] = use;
  int& place = order_[static_cast<size_t>(use)];
  if (place < 0) place = num_ordered_++;
  previous_ = use;
}

// The use that followed this one in the previous pass, or -1 at its end: an optimizer step may come
// between two passes, and values brought before it would be stale.
int Residency::following(int use) const {
  const int next = next_use_[static_cast<size_t>(use)];
  const bool ends =
      next < 0 || order_[static_cast<size_t>(next)] <= order_[static_cast<size_t>(use)];
  return ends ? -1 : next;
}

void Residency::expect_next(int use) {
  do {
    use = following(use);
  } while (use >= 0 && uses_[static_cast<size_t>(use / 2)] > 0);
  if (use >= 0) gatherer_.expect(use / 2);
}

// Predicts the next uses from the previous pass, up to the prefetch limit and the end of the pass.
// Uses of units that are gathered already count towards the limit, so that a unit once chosen stays
// chosen until it is used.
void Residency::choose_prefetch(int use) {
  to_prefetch_.clear();
  int64_t elements = 0;
  for (;;) {
    use = following(use);
    if (use < 0) return;
    const int unit = use / 2;
    elements += elements_[static_cast<size_t>(unit)];
    if (elements > limits_.prefetch_elements) return;
    const bool chosen =
        std::find(to_prefetch_.begin(), to_prefetch_.end(), unit) != to_prefetch_.end();
    if (uses_[static_cast<size_t>(unit)] == 0 && !chosen) to_prefetch_.push_back(unit);
  }
}

void Residency::start_prefetch() {
  int64_t live = 0;
  for (size_t u = 0; u < prefetched_.size(); ++u) {
    if (prefetched_[u] && std::find(to_prefetch_.begin(), to_prefetch_.end(),
                                    static_cast<int>(u)) == to_prefetch_.end())
      drop(u);
    if (prefetched_[u] || uses_[u] > 0) live += elements_[u];
  }
  for (const int unit : to_prefetch_) {
    const auto u = static_cast<size_t>(unit);
    if (prefetched_[u]) continue;
    live += elements_[u];
    if (live > limits_.max_live_elements) return;
    gatherer_.start_gather(unit);
    prefetched_[u] = true;
  }
}

void Residency::drop(size_t unit) {
  gatherer_.finish_gather(static_cast<int>(unit));
  gatherer_.drop_gathered(static_cast<int>(unit));
  prefetched_[unit] = false;
}

void Residency::drop_prefetched() {
  for (size_t u = 0; u < prefetched_.size(); ++u)
    if (prefetched_[u]) drop(u);
}

void Residency::acquire_outside_pass(int unit) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0) return;
  drop_prefetched();
  if (uses_[u]++ == 0) gatherer_.gather(unit);
}

void Residency::release(int unit) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0) return;
  ASSERT(uses_[u] > 0, "unit {} is released more often than it was acquired", unit);
  if (--uses_[u] == 0) gatherer_.drop_gathered(unit);
}

}  // namespace facet
