// The memory of the emulated device. Addresses come from one reserved range and are never given
// out twice; an allocation starts with NaNs and lies between guard bands; its pages can be touched
// only while an operation of a stream runs, so that a host that follows a device pointer dies as it
// would on a real machine (fault.h says why), and freed memory stays closed for ever.
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

constexpr size_t kGuardBytes = 256;  // before and behind every allocation

// Every 16-bit and every 32-bit number in memory that nobody has written is a NaN; guard bands hold
// other NaNs.
void fill_undefined(void* begin, size_t bytes);
void fill_guard(void* begin, size_t bytes);
bool guard_intact(const void* begin, size_t bytes);

// An address for `bytes` bytes, aligned to 256; the memory is there from make_live() on.
void* reserve_device_memory(size_t bytes, Site where);
void make_live(void* data);
void free_device_memory(void* data, Site where);
// The address must be of a live (or reserved) allocation: a second free is an error.
void check_freeable(const void* data, Site where);

// The allocation that the address is in or that it is nearest behind; null outside the device.
const Allocation* find_allocation(const void* address);
bool in_device_range(const void* address);
// [begin, begin + bytes) must lie inside one live allocation; `what` names it in the message.
void check_device_range(const void* begin, size_t bytes, const char* what, Site where);
// Makes the content undefined again, as that of a workspace between two uses.
void forget_content(void* begin, size_t bytes);

// The first damaged guard band ends in an error. Called after every operation.
void check_device_guards();

int64_t live_allocations();
int64_t allocations_made();  // since the program began

// Device memory can be touched while one of these lives.
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
// A range of addresses of the given size, without memory behind it.
char* reserve_addresses(size_t bytes);

}  // namespace facet::emulated
