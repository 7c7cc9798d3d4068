// The parameters at stage 3: of each unit a rank keeps its slice of the trained and of the frozen
// values. The whole unit is there only while somebody uses it, in a buffer that units share.
//
// Small units stay whole everywhere. Outside its use a unit's tensors have addresses that are not
// mapped, so that a forgotten gather is a crash and not a wrong number.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "nn/param_table.h"
#include "zero/unit_pool.h"

namespace facet {

class PartitionedValues {
 public:
  // The table is laid out with Memory::kMeasureOnly. Units of fewer elements than the threshold,
  // trained and frozen together, stay whole. The values are undefined until they are filled.
  PartitionedValues(ParamTable& table, Communicator& world, int64_t persistence_threshold);

  // Collective: gathers the unit unless it is in use or stays whole anyway. Uses are counted.
  void acquire(int unit);
  void release(int unit);

  // One unit after the other for whoever fills the values, without an exchange: whole, content
  // undefined; then this rank's slices are kept.
  void open_to_fill(int unit);
  void keep_slices(int unit);

  bool stays_whole(int unit) const { return units_[static_cast<size_t>(unit)].stays_whole; }
  Tensor trained_slice(int unit) const { return units_[static_cast<size_t>(unit)].trained; }

  // Bytes of the slices and of the units that stay whole.
  static int64_t kept_bytes(const ParamTable& table, int ranks, int64_t persistence_threshold);
  static bool stays_whole(const ParamUnit& unit, int64_t persistence_threshold);

 private:
  struct Unit {
    bool stays_whole = false;
    Tensor trained, frozen;                // this rank's slices
    Tensor trained_layout, frozen_layout;  // unmapped addresses, for when it isn't whole
    int uses = 0;
    int buffer = -1;  // of pool_ while it is whole
  };
  void make_whole(int unit);
  void give_back(int unit);

  ParamTable& table_;
  Communicator& world_;
  std::unique_ptr<Arena> memory_;
  UnitPool pool_;
  std::vector<Unit> units_;
};

}  // namespace facet
