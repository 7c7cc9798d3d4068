// The gradients of the trained parameters on their way from backward to the optimizer: where they
// are kept and when the ranks' contributions are summed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "zero/reduction_buckets.h"
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
            ReduceWhen when, const ReductionOptions& reduction);

  void begin_step(int64_t micro_batches);
  void backward_begins(int unit);    // somebody is about to add to the unit's gradients
  void micro_batch_ready(int unit);  // collective; once for each unit and micro-batch
  void finish();                     // collective: after the last micro-batch

  // After finish(): the sums over ranks and micro-batches, of this rank's slice.
  Tensor slice(int unit) const;

  // Bytes beside the whole buffers of the table: of the sums, of the buckets. The pool comes on
  // top.
  static int64_t slice_bytes(const ParamTable& table, int ranks);
  static int64_t bucket_bytes(const ParamTable& table, int ranks,
                              const ReductionOptions& reduction);

 private:
  Tensor whole(int unit) const { return table_.units()[static_cast<size_t>(unit)].trained_grads; }
  void reduce(int unit);

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
  ReductionBuckets buckets_;
  int64_t micro_batches_left_ = 0;  // of the step
  size_t units_ready_ = 0;          // in this micro-batch
};

}  // namespace facet
