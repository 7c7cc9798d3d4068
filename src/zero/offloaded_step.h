// AdamW on the host for layers on a device: masters and moments are in page-locked memory, the
// gradients come in chunks, and the new values go back in chunks, unless they stay on the host.
// While the host computes a chunk, the next one's gradients are on their way to it and the values
// of the one before on theirs back.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "device/arena.h"
#include "nn/param_table.h"
#include "zero/offload.h"

namespace facet {

class OffloadedStep {
 public:
  // Elements of the longest vector that run() gets. `values`: the type that layers see.
  OffloadedStep(const HostSide& host, DType values, int64_t longest, int64_t chunk_elements);

  // The state of n elements: on the host fp32 (n) each, on the device what the layers see of it.
  struct Vectors {
    Tensor master, exp_avg, exp_avg_sq;
    Tensor value;  // of the device, if it is not offloaded too
    Tensor grad;   // fp32, on the device
    bool value_on_host = false;
  };
  // One AdamW step over them; of what was given, the last chunk is still to be computed. The host
  // has waited for the gradients' collectives.
  void run(const Vectors& vectors, const AdamWStep& step);
  // Computes it. What the device is given from here on sees the new values.
  void finish();

  static int64_t staging_bytes(DType values, int64_t longest, int64_t chunk_elements);
  // Elements of the longest vector: of what a rank updates in one unit.
  static int64_t longest(const ParamTable& table, int ranks, int64_t zero_stage);

 private:
  // Page-locked: gradients on their way to the host, rounded values on theirs back.
  struct Slot {
    Tensor grad, value;  // (chunk); no value in fp32, where the master itself is sent
    HostCopies::Ticket came, went;
  };
  struct Chunk {
    Vectors vectors;
    AdamWStep step;
    Slot* slot = nullptr;
  };
  static std::array<Slot, 2> allocate(Arena& memory, DType values, int64_t chunk);
  void compute(const Chunk& chunk);

  Backend& ops_;
  HostCopies& copies_;
  int64_t chunk_elements_;
  std::unique_ptr<Arena> memory_;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;              // of slots_
  std::optional<Chunk> coming_;  // its gradients are on their way
  HostCopies::Ticket last_;      // of all that went back
};

}  // namespace facet
