// For tests of the emulation itself.
#pragma once

#include "device/emulated/memory.h"
#include "device/emulated/stream.h"
#include "kernels/emulated/executor.h"

namespace facet::device_test {

// After an error the device is as new.
inline void reset_device() {
  emulated::drop_queued_operations();
  emulated::reset_device_memory();
}

}  // namespace facet::device_test
