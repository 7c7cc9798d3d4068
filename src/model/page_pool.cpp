#include "model/page_pool.h"

#include <algorithm>

#include "base/check.h"

namespace facet {
namespace {

// A bijection in which each bit of the result depends on all of x (the last steps of SplitMix64:
// Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void PageKey::add(uint64_t value) {
  high = mix(high + value + 0x9e3779b97f4a7c15u);
  low = mix((low ^ mix(value)) * 0xd1342543de82ef95u + high);
}

PagePool::PagePool(int64_t pages)
    : users_(static_cast<size_t>(pages), 0), written_(static_cast<size_t>(pages)), free_(pages) {}

PagePool::Run PagePool::best_run(int64_t count) const {
  Run best, run;
  const auto is_better = [&] {
    const bool fits = run.count >= count, best_fits = best.count >= count;
    return fits != best_fits ? fits : fits ? run.count < best.count : run.count > best.count;
  };
  for (int64_t page = 0; page <= num_pages(); ++page) {
    if (page < num_pages() && users_[static_cast<size_t>(page)] == 0) {
      ++run.count;
      continue;
    }
    if (run.count > 0 && is_better()) best = run;
    run = {page + 1, 0};
  }
  return {best.first, std::min(best.count, count)};
}

void PagePool::take(int64_t count, std::vector<int32_t>& pages) {
  ASSERT(count <= free_, "{} pages are asked for and {} of {} are free", count, free_, num_pages());
  for (int64_t left = count; left > 0;) {
    const Run run = best_run(left);
    for (int64_t page = run.first; page < run.first + run.count; ++page) {
      forget(static_cast<int32_t>(page));
      users_[static_cast<size_t>(page)] = 1;
      pages.push_back(static_cast<int32_t>(page));
    }
    left -= run.count;
    free_ -= run.count;
  }
}

void PagePool::release(int32_t page) {
  int32_t& users = users_[static_cast<size_t>(page)];
  ASSERT(users > 0, "page {} is free already", page);
  if (--users == 0) ++free_;
}

void PagePool::forget(int32_t page) {
  std::optional<PageKey>& key = written_[static_cast<size_t>(page)];
  if (key) found_.erase(*key);
  key.reset();
}

void PagePool::write(int32_t page, const PageKey& key) {
  if (found_.contains(key)) return;
  forget(page);
  written_[static_cast<size_t>(page)] = key;
  found_.emplace(key, page);
}

std::optional<int32_t> PagePool::share(const PageKey& key) {
  const auto found = found_.find(key);
  if (found == found_.end()) return {};
  if (users_[static_cast<size_t>(found->second)]++ == 0) --free_;
  return found->second;
}

}  // namespace facet
