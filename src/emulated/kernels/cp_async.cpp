#include "emulated/kernels/cp_async.h"

#include <cstring>

#include "emulated/device/memory.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/copied_bytes.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

int64_t copied_bytes = 0;

void arrive(const AsyncCopy& copy) {
  note_access(copy.from, copy.valid_bytes, Access::kRead, copy.where);
  note_access(copy.to, copy.bytes, Access::kWrite, copy.where);
  std::memcpy(copy.to, copy.from, copy.valid_bytes);
  std::memset(static_cast<char*>(copy.to) + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
}

// Copies in flight arrive in any order.
void check_place(const AsyncCopy& copy, const std::vector<AsyncCopy>& in_flight) {
  const auto ends_before = [](const AsyncCopy& a, const AsyncCopy& b) {
    return static_cast<const char*>(a.to) + a.bytes <= b.to;
  };
  for (const AsyncCopy& other : in_flight)
    if (!ends_before(copy, other) && !ends_before(other, copy))
      violation(copy.where,
                "cp.async to a place of another one that the thread has not waited for");
}

}  // namespace

int64_t async_copied_bytes() { return copied_bytes; }

void start_async_copy(void* to, const void* from, size_t bytes, size_t valid_bytes, Site where) {
  require_alignment(to, bytes, "the destination of cp.async", where);
  require_alignment(from, bytes, "the source of cp.async", where);
  if (!shared_range().contains(to))
    violation(where, "the destination of cp.async is not in shared memory");
  if (valid_bytes > bytes) violation(where, "{} valid bytes of {}", valid_bytes, bytes);
  if (valid_bytes > 0) check_device_range(from, valid_bytes, "the source of cp.async", where);
  note_access(from, valid_bytes, Access::kRead, where);
  note_access(to, bytes, Access::kWrite, where);
  forget_content(to, bytes);
  copied_bytes += static_cast<int64_t>(valid_bytes);
  Fiber& f = Executor::instance().current();
  const AsyncCopy copy{to, from, bytes, valid_bytes, where};
  check_place(copy, f.uncommitted);
  for (const auto& group : f.groups) check_place(copy, group);
  f.uncommitted.push_back(copy);
}

void commit_async_copies() {
  Fiber& f = Executor::instance().current();
  f.groups.push_back(std::move(f.uncommitted));
  f.uncommitted.clear();
}

void wait_async_copies(int pending) {
  auto& groups = Executor::instance().current().groups;
  while (groups.size() > static_cast<size_t>(pending)) {
    for (const AsyncCopy& copy : groups.front()) arrive(copy);
    groups.erase(groups.begin());
  }
}

void check_copies_awaited(const Fiber& fiber) {
  const AsyncCopy* left = fiber.uncommitted.empty() ? nullptr : &fiber.uncommitted.front();
  for (const auto& group : fiber.groups)
    if (!left && !group.empty()) left = &group.front();
  if (left) violation(left->where, "the thread ends without having waited for this cp.async");
}

}  // namespace facet::emulated
