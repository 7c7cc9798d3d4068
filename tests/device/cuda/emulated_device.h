// For tests of the emulation itself.
#pragma once

#include "emulated/device/memory.h"
#include "emulated/device/stream.h"
#include "emulated/kernels/executor.h"

namespace facet::device_test {

// After an error the device is as new.
inline void reset_device() {
  emulated::drop_queued_operations();
  emulated::reset_device_memory();
}

}  // namespace facet::device_test
