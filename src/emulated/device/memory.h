// The memory of the emulated device. Addresses come from one reserved range and are never given out
// twice; an allocation starts with NaNs and lies between guard bands; its pages are accessible only
// while an operation of a stream runs, so that a host that dereferences a device pointer crashes as
// on a real machine (fault.h explains the crash), and freed memory stays inaccessible for good.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

struct Allocation {
  enum class State : uint8_t { kReserved, kLive, kFreed };
  char* data;
  size_t bytes;
  State state;
  Site where;  // of the call that allocated it; once it is freed, of the one that freed it
};

constexpr size_t kGuardBytes = 256;  // before and after every allocation

// Unwritten memory reads as NaN in 16 and in 32 bits; guard bands hold other NaNs.
void fill_undefined(void* begin, size_t bytes);
void fill_guard(void* begin, size_t bytes);
bool guard_intact(const void* begin, size_t bytes);

// An address for `bytes` bytes, aligned to 256; the memory is usable after make_live().
void* reserve_device_memory(size_t bytes, Site where);
void make_live(void* data);
void free_device_memory(void* data, Site where);
// The address must be of a live (or reserved) allocation: a second free is an error.
void check_freeable(const void* data, Site where);

// The allocation that contains the address, or the nearest one before it; null outside the device.
const Allocation* find_allocation(const void* address);
bool in_device_range(const void* address);
// [begin, begin + bytes) must lie inside one live allocation; `what` names it in the message.
void check_device_range(const void* begin, size_t bytes, const char* what, Site where);
// Makes the content undefined again, as of a workspace that is reused.
void forget_content(void* begin, size_t bytes);

// Throws at the first damaged guard band. Called after every operation.
void check_device_guards();

int64_t live_allocations();
int64_t allocations_made();  // since the program started

// Device memory is accessible during the lifetime of one of these.
class OpenDeviceMemory {
 public:
  OpenDeviceMemory();
  ~OpenDeviceMemory();
  OpenDeviceMemory(const OpenDeviceMemory&) = delete;
  OpenDeviceMemory& operator=(const OpenDeviceMemory&) = delete;
};
bool device_memory_is_open();

// Frees everything: between tests, after an error.
void reset_device_memory();

// The reserved range, for the shadow of the race check.
struct AddressRange {
  const char* begin;
  size_t bytes;
  size_t offset_of(const void* address) const {
    return static_cast<size_t>(static_cast<const char*>(address) - begin);
  }
  bool contains(const void* address) const { return offset_of(address) < bytes; }
};
AddressRange device_range();
// Reserves a range of addresses of the given size, without memory.
char* reserve_addresses(size_t bytes);

}  // namespace facet::emulated
