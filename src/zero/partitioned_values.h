// The parameters at stage 3: of each unit a rank keeps its slice of the trained and of the frozen
// values. The whole unit is there only while somebody uses it, in a buffer that units share.
//
// Small parameters stay on every rank and are copied to their places in the whole unit; a unit of
// small ones only is always whole. Outside its use a unit's tensors have addresses that are not
// mapped, so that a forgotten gather is a crash and not a wrong number.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "zero/residency.h"
#include "zero/unit_pool.h"
#include "zero/value_runs.h"

namespace facet {

struct ValueLimits {
  int64_t persistence_threshold = 0;  // parameters of fewer elements stay on every rank
  ResidencyLimits residency;
};

class PartitionedValues : private UnitMover {
 public:
  // The table is laid out with Memory::kMeasureOnly. The values are undefined until they are
  // filled.
  PartitionedValues(ParamTable& table, Communicator& world, Backend& ops,
                    const ValueLimits& limits);
  ~PartitionedValues() override;

  // Collective: who uses units one after the other, in a pass over the model or apart from it.
  Residency& residency() { return *residency_; }

  // Of new values of a unit, whole, on the host, in fp32 and with the padding of slices: keeps,
  // rounded where it must be, what is this rank's.
  void keep(int unit, const Tensor& trained, const Tensor& frozen);

  Tensor trained_slice(int unit) const { return units_[static_cast<size_t>(unit)].trained.slice; }
  // Collective: after the trained slices changed, what stays on every rank follows them.
  void publish();

  // Bytes of the slices and of what stays on every rank.
  static int64_t kept_bytes(const ParamTable& table, int ranks, int64_t persistence_threshold);
  // Elements of each unit when it is whole, padding counted; 0: it is always.
  static std::vector<int64_t> moving_elements(const ParamTable& table, int ranks,
                                              int64_t persistence_threshold);

 private:
  // A run of a buffer and what every rank has of it.
  struct Run {
    Slice range;
    Tensor copy;  // of a run that stays on every rank
    Communicator::Parts parts;
    Slice own;  // this rank's, counted in the slice
    Communicator::Pending on_its_way;
  };
  struct Buffer {
    Tensor slice;   // this rank's
    Tensor always;  // whole, of a unit that always is
    Tensor layout;  // unmapped addresses, for when it isn't whole
    std::vector<Run> runs;
  };
  struct Unit {
    bool stays_whole = false;
    Buffer trained, frozen;
    int buffer = -1;  // of pool_ while it is whole or on its way
  };
  static Unit take_unit(Arena& memory, const ParamUnit& layout, int ranks,
                        int64_t persistence_threshold);
  static void take_buffer(Arena& memory, Buffer& buffer, const std::vector<ValueRun>& runs,
                          int64_t slice);
  void cut(Buffer& buffer, int64_t length) const;
  void gather(Buffer& buffer, const Tensor& whole);
  void keep(const Buffer& buffer, const Tensor& whole) const;
  void publish(Buffer& buffer);

  struct Whole {
    Tensor trained, frozen;  // the latter with its padding
  };
  Whole whole(int unit) const;
  void acquire(int unit);
  void bind(int unit);

  void fetch(int unit) override;
  void start(int unit) override;
  void arrive(int unit) override;
  void give_back(int unit) override;

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  std::unique_ptr<Arena> memory_;
  std::unique_ptr<UnitPool> pool_;
  std::vector<Unit> units_;
  std::optional<Residency> residency_;
};

}  // namespace facet
