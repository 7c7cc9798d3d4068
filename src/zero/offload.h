// What of the state lies in host memory although the layers compute on a device.
#pragma once

#include <cstdint>

#include "device/host_copies.h"
#include "ops/ops.h"

namespace facet {

struct OffloadChoices {
  bool optimizer = false;                     // masters and moments; AdamW is the host's
  bool params = false;                        // at stage 3, with the optimizer: this rank's slices
  int64_t chunk_elements = int64_t{4} << 20;  // that pass between host and device at a time
};

// What the host does it with. Both outlive whoever is given them.
struct HostSide {
  Backend* ops = nullptr;  // on host memory
  HostCopies* copies = nullptr;
};

}  // namespace facet
