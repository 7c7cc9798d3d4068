// The gradients of the trained parameters on their way from backward to the optimizer: where they
// are kept and when the ranks' contributions are summed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "zero/unit_pool.h"

namespace facet {

enum class GradientHome : uint8_t {
  kWhole,        // each rank has them all; after the step's reduction the sums of all
  kWholeToSum,   // each rank has its own contributions to all; sums of its slice only
  kPartitioned,  // whole only while backward works on the unit; sums of its slice only
};
enum class ReduceWhen : uint8_t { kOncePerStep, kEveryMicroBatch };

class Gradients {
 public:
  // kPartitioned: the table's gradients are laid out with Memory::kMeasureOnly and are summed with
  // every micro-batch; otherwise they are allocated.
  Gradients(ParamTable& table, Communicator& world, Backend& ops, GradientHome home,
            ReduceWhen when);

  void clear();                      // at the begin of a step
  void backward_begins(int unit);    // somebody is about to add to the unit's gradients
  void micro_batch_ready(int unit);  // collective with kEveryMicroBatch
  void finish();                     // collective: after the last micro-batch

  // After finish(): the sums over ranks and micro-batches, of this rank's slice.
  Tensor slice(int unit) const;

  // Bytes beside the whole buffers of the table, of the pool apart.
  static int64_t slice_bytes(const ParamTable& table, int ranks);

 private:
  Tensor whole(int unit) const { return table_.units()[static_cast<size_t>(unit)].trained_grads; }

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  GradientHome home_;
  ReduceWhen when_;
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> sums_;  // of each unit's slice, with kEveryMicroBatch
  UnitPool pool_;
  std::vector<int> buffers_;     // of each unit: of pool_, -1 when it has none
  std::vector<Tensor> layouts_;  // of each unit: unmapped addresses
};

}  // namespace facet
