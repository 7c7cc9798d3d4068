// The parameters at stage 3: of each unit a rank keeps its slice of the trained and of the frozen
// values. The whole unit is there only while somebody uses it, in a buffer that units share.
//
// Small units stay whole everywhere. Outside its use a unit's tensors have addresses that are not
// mapped, so that a forgotten gather is a crash and not a wrong number.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "zero/residency.h"
#include "zero/unit_pool.h"

namespace facet {

struct ValueLimits {
  int64_t persistence_threshold = 0;  // units of fewer elements, trained and frozen, stay whole
  ResidencyLimits residency;
};

class PartitionedValues : private UnitMover {
 public:
  // The table is laid out with Memory::kMeasureOnly. The values are undefined until they are
  // filled.
  PartitionedValues(ParamTable& table, Communicator& world, const ValueLimits& limits);
  ~PartitionedValues() override;

  // Collective: who uses units one after the other, in a pass over the model or apart from it.
  Residency& residency() { return *residency_; }

  // One unit after the other for whoever fills the values, without an exchange: whole, content
  // undefined; then this rank's slices are kept.
  void open_to_fill(int unit);
  void keep_slices(int unit);

  bool stays_whole(int unit) const { return units_[static_cast<size_t>(unit)].stays_whole; }
  Tensor trained_slice(int unit) const { return units_[static_cast<size_t>(unit)].trained; }

  // Bytes of the slices and of the units that stay whole.
  static int64_t kept_bytes(const ParamTable& table, int ranks, int64_t persistence_threshold);
  // Elements of each unit when it is whole, padding counted; 0: it stays whole.
  static std::vector<int64_t> moving_elements(const ParamTable& table, int ranks,
                                              int64_t persistence_threshold);

 private:
  struct Unit {
    bool stays_whole = false;
    Tensor trained, frozen;                // this rank's slices
    Tensor trained_layout, frozen_layout;  // unmapped addresses, for when it isn't whole
    int buffer = -1;                       // of pool_ while it is whole or on its way
    Communicator::Pending trained_on_its_way, frozen_on_its_way;
  };
  struct Whole {
    Tensor trained, frozen;  // the latter with its padding
  };
  Whole whole(int unit) const;
  void take_buffer(int unit);
  void bind(int unit);

  void fetch(int unit) override;
  void start(int unit) override;
  void arrive(int unit) override;
  void give_back(int unit) override;

  ParamTable& table_;
  Communicator& world_;
  std::unique_ptr<Arena> memory_;
  std::unique_ptr<UnitPool> pool_;
  std::vector<Unit> units_;
  std::optional<Residency> residency_;
};

}  // namespace facet
