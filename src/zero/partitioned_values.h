// The partitioned parameters of stage 3: of each unit a rank keeps its slice of the trained and of
// the frozen values. The full unit is gathered from all ranks for the time of its use, into a
// buffer of a shared pool.
//
// With offloaded parameters the slices are in page-locked memory of the host
// (zero/slice_uploads.h).
//
// Small parameters are persistent: every rank keeps them and copies them into the gathered unit; a
// unit of small parameters only is never partitioned. While a unit is not gathered its tensors
// point to unmapped addresses, so that a forgotten gather is a crash and not a wrong number.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "zero/offload.h"
#include "zero/residency.h"
#include "zero/slice_uploads.h"
#include "zero/unit_pool.h"
#include "zero/value_runs.h"

namespace facet {

struct ValueLimits {
  int64_t persistence_threshold = 0;  // parameters of fewer elements are kept on every rank
  ResidencyLimits residency;
};

class PartitionedValues : private UnitGatherer {
 public:
  // The table must have been laid out with Memory::kMeasureOnly. Values are undefined until filled.
  PartitionedValues(ParamTable& table, Communicator& world, Backend& ops, const ValueLimits& limits,
                    const OffloadChoices& offload, const HostSide& host);
  ~PartitionedValues() override;

  // Collective: acquires and releases units, and gathers them as needed.
  Residency& residency() { return *residency_; }
  // Drops what was brought ahead of its use: the values are about to change.
  void drop_brought();

  // Outside passes, while nothing is in use through residency(): gathers the unit into `place`, of
  // its gathered elements, where the layers find it until drop().
  void gather_into(int unit, const Tensor& place);
  void drop(int unit) { drop_gathered(unit); }

  // Takes this rank's slices and the persistent parameters from a full unit of new fp32 values on
  // the host (padded to a multiple of the slices), rounded to the table's type.
  void store(int unit, const Tensor& trained, const Tensor& frozen);

  // Are the unit's slices on the host although the layers are on a device?
  bool slices_on_host(int unit) const {
    return uploads_ && !units_[static_cast<size_t>(unit)].is_persistent;
  }
  Tensor trained_slice(int unit) const { return units_[static_cast<size_t>(unit)].trained.slice; }
  // Collective: after the trained slices changed, all-gathers the persistent parameters.
  void publish();

  // Bytes of this rank's slices and of the persistent parameters, which are always the device's.
  struct KeptBytes {
    int64_t slices = 0, persistent = 0;
  };
  static KeptBytes kept_bytes(const ParamTable& table, int ranks, int64_t persistence_threshold);
  // Bytes on the device that offloaded slices pass through.
  static int64_t upload_bytes(const ParamTable& table, int ranks, int64_t persistence_threshold);
  // Elements of each gathered unit, with padding; 0: all of it is persistent.
  static std::vector<int64_t> gathered_elements(const ParamTable& table, int ranks,
                                                int64_t persistence_threshold);

 private:
  // A run of a flat buffer, and each rank's part of it.
  struct Run {
    Slice range;
    Tensor persistent;  // this rank's copy, if the run is persistent
    Communicator::Parts parts;
    Slice own;  // this rank's part, relative to its slice
    Communicator::Pending pending;
  };
  struct Buffer {
    Tensor slice;       // this rank's
    Tensor persistent;  // the full buffer of a persistent unit
    Tensor layout;      // unmapped addresses, for while it is not gathered
    std::vector<Run> runs;
  };
  struct Unit {
    bool is_persistent = false;
    Buffer trained, frozen;
    Tensor whole;     // while gathered or being gathered; with padding
    int buffer = -1;  // that it is of pool_, if it is
  };
  struct Memory {
    Arena &slices, &persistent;
  };
  static Unit allocate_unit(const Memory& memory, const ParamUnit& layout, int ranks,
                            int64_t persistence_threshold);
  static void allocate_buffer(const Memory& memory, Buffer& buffer,
                              const std::vector<ValueRun>& runs, int64_t slice);
  void partition(Buffer& buffer, int64_t length) const;
  void start_gather(Buffer& buffer, const Tensor& whole, const Tensor& slice);
  void wait_for(Unit& unit);
  void store(const Buffer& buffer, const Tensor& whole) const;
  void publish(Buffer& buffer);

  struct Gathered {
    Tensor trained, frozen;  // frozen with padding
  };
  Gathered gathered(int unit) const;
  void acquire(int unit);
  int64_t gathered_elements(int unit) const;
  void bind(int unit);

  void gather(int unit) override;
  void start_gather(int unit) override;
  void finish_gather(int unit) override;
  void drop_gathered(int unit) override;
  void expect(int unit) override;

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  Backend& slice_ops_;  // where the slices are
  std::unique_ptr<Arena> slices_, persistent_;
  std::optional<SliceUploads> uploads_;  // of offloaded slices
  std::unique_ptr<UnitPool> pool_;
  std::vector<Unit> units_;
  std::optional<Residency> residency_;
};

}  // namespace facet
