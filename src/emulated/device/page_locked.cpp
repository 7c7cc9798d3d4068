#include "emulated/device/page_locked.h"

#include <cstdlib>
#include <iterator>
#include <map>

namespace facet::emulated {
namespace {

// Every range that is page-locked now. One thread, the host's, is here.
std::map<const char*, size_t>& ranges() {
  static auto* const the_ranges = new std::map<const char*, size_t>;
  return *the_ranges;
}

int64_t copies = 0;

}  // namespace

void* allocate_page_locked(size_t bytes) {
  void* const data = std::malloc(bytes);
  ranges()[static_cast<const char*>(data)] = bytes;
  return data;
}

void free_page_locked(void* data) {
  ranges().erase(static_cast<const char*>(data));
  std::free(data);
}

bool is_page_locked(const void* host) {
  const auto* const place = static_cast<const char*>(host);
  const auto next = ranges().upper_bound(place);
  if (next == ranges().begin()) return false;
  const auto& [begin, bytes] = *std::prev(next);
  return place < begin + bytes;
}

size_t page_locked_bytes() {
  size_t sum = 0;
  for (const auto& [begin, bytes] : ranges()) sum += bytes;
  return sum;
}

void count_pageable_copy() { ++copies; }
int64_t pageable_copies() { return copies; }

}  // namespace facet::emulated
