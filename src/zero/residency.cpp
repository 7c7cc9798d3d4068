#include "zero/residency.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace facet {

Residency::Residency(std::vector<int64_t> elements, const ResidencyLimits& limits, UnitMover& mover)
    : elements_(std::move(elements)),
      limits_(limits),
      mover_(mover),
      uses_(elements_.size()),
      started_(elements_.size()),
      follower_(2 * elements_.size(), -1),
      place_(2 * elements_.size(), -1) {
  ahead_.reserve(elements_.size());
}

void Residency::acquire(int unit, Phase phase) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0 || uses_[u]++ > 0) return;
  const int use = use_of(unit, phase);
  learn(use);
  if (started_[u])
    mover_.arrive(unit);
  else
    mover_.fetch(unit);
  started_[u] = false;
  if (limits_.prefetch_elements == 0) return;
  choose_ahead(use);
  start_ahead();
}

void Residency::learn(int use) {
  if (previous_ >= 0) follower_[static_cast<size_t>(previous_)] = use;
  int& place = place_[static_cast<size_t>(use)];
  if (place < 0) place = places_++;
  previous_ = use;
}

// The uses that come next, as the last time, as far as the bucket and the pass go: a step may come
// between two passes, and values gathered before it would be old. Every use counts, also of units
// that are here now, so that what is chosen once stays chosen until it is used.
void Residency::choose_ahead(int use) {
  ahead_.clear();
  int64_t elements = 0;
  for (;;) {
    const int next = follower_[static_cast<size_t>(use)];
    if (next < 0 || place_[static_cast<size_t>(next)] <= place_[static_cast<size_t>(use)]) return;
    use = next;
    const int unit = use / 2;
    elements += elements_[static_cast<size_t>(unit)];
    if (elements > limits_.prefetch_elements) return;
    const bool chosen = std::find(ahead_.begin(), ahead_.end(), unit) != ahead_.end();
    if (uses_[static_cast<size_t>(unit)] == 0 && !chosen) ahead_.push_back(unit);
  }
}

void Residency::start_ahead() {
  int64_t live = 0;
  for (size_t u = 0; u < started_.size(); ++u) {
    if (started_[u] && std::find(ahead_.begin(), ahead_.end(), static_cast<int>(u)) == ahead_.end())
      drop(u);
    if (started_[u] || uses_[u] > 0) live += elements_[u];
  }
  for (const int unit : ahead_) {
    const auto u = static_cast<size_t>(unit);
    if (started_[u]) continue;
    live += elements_[u];
    if (live > limits_.max_live_elements) return;
    mover_.start(unit);
    started_[u] = true;
  }
}

void Residency::drop(size_t unit) {
  mover_.arrive(static_cast<int>(unit));
  mover_.give_back(static_cast<int>(unit));
  started_[unit] = false;
}

void Residency::drop_started() {
  for (size_t u = 0; u < started_.size(); ++u)
    if (started_[u]) drop(u);
}

void Residency::acquire_alone(int unit) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0) return;
  drop_started();
  if (uses_[u]++ == 0) mover_.fetch(unit);
}

void Residency::release(int unit) {
  const auto u = static_cast<size_t>(unit);
  if (elements_[u] == 0) return;
  ASSERT(uses_[u] > 0, "unit {} is released more often than it was taken", unit);
  if (--uses_[u] == 0) mover_.give_back(unit);
}

}  // namespace facet
