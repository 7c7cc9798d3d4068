// The gradients of the trained parameters between backward and the optimizer: whether they are kept
// in full or partitioned, and when they are reduced over the ranks.
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

enum class GradientLayout : uint8_t {
  kAllReduced,       // full gradients on each rank, all-reduced at the end of the step
  kReduceScattered,  // full local gradients, reduce-scattered: a rank gets the sums of its slice
  kPartitioned,      // full only while backward works on the unit, then reduce-scattered
};
enum class ReduceWhen : uint8_t { kOncePerStep, kEveryMicroBatch };

class Gradients {
 public:
  // kPartitioned: the table's gradients must be laid out with Memory::kMeasureOnly and are reduced
  // in every micro-batch; otherwise they must be allocated.
  Gradients(ParamTable& table, Communicator& world, Backend& ops, GradientLayout layout,
            ReduceWhen when, const ReductionOptions& reduction);

  void begin_step(int64_t micro_batches);
  void backward_begins(int unit);    // before anything is added to the unit's gradients
  void micro_batch_ready(int unit);  // collective; once per unit and micro-batch
  void finish();                     // collective: after the last micro-batch

  // After finish(): this rank's slice, summed over ranks and micro-batches.
  Tensor slice(int unit) const;

  // Bytes of the sums and of the buckets, on top of the table's full buffers and of the pool.
  static int64_t slice_bytes(const ParamTable& table, int ranks);
  static int64_t bucket_bytes(const ParamTable& table, int ranks,
                              const ReductionOptions& reduction);

 private:
  Tensor whole(int unit) const { return table_.units()[static_cast<size_t>(unit)].trained_grads; }
  void reduce(int unit);

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  GradientLayout layout_;
  ReduceWhen when_;
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> sums_;  // per unit: of this rank's slice, with kEveryMicroBatch
  // What a step begins to add to, of all units together; undefined where there is none.
  Tensor all_gradients_, all_sums_;
  UnitPool pool_;
  std::vector<int> buffers_;     // per unit: number in pool_, or -1
  std::vector<Tensor> layouts_;  // per unit: unmapped addresses
  ReductionBuckets buckets_;
  int64_t micro_batches_left_ = 0;  // in this step
  size_t units_ready_ = 0;          // in this micro-batch
};

}  // namespace facet
