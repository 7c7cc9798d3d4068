// The parameters' values in all forms in which training keeps them: as the layers see them, whole
// or (stage 3) in slices; and where the layers compute in 16 bits, fp32 masters of what this rank
// steps. Who fills or reads them sees fp32, one unit at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "nn/context.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "zero/fp32_window.h"
#include "zero/partitioned_values.h"
#include "zero/unit_slices.h"

namespace facet {

class Values {
 public:
  // At stage 3 the table is laid out with Memory::kMeasureOnly.
  Values(ParamTable& table, Communicator& world, Backend& ops, int64_t zero_stage,
         const ValueLimits& stage3);

  // Somebody is about to use the unit, and has used it.
  void before(int unit, Phase phase);
  void after(int unit);
  // Gives back what was gathered ahead: the values are about to change.
  void settle();

  // For who fills the values of all units, the same ones on every rank.
  OpenUnit filler();
  // Collective: rank 0 runs `work`, which may open any unit to read its whole values.
  void read_on_rank_0(const std::function<void(const OpenUnit&)>& work);
  // Of the frozen values as they were filled, before any rounding; collective.
  uint64_t frozen_hash();

  // Of the unit's trained buffer: this rank's slice, and what of it this rank steps (its slice, at
  // stage 0 all).
  Slice slice_of(int unit) const;
  Slice stepped(int unit) const;
  // Of what this rank steps: the fp32 values, and the same elements as layers see them where these
  // are others (else undefined). part: of the unit's trained buffer.
  Tensor master_at(int unit, const Slice& part) const;
  Tensor copy_at(int unit, const Slice& part) const;

  // Collective: after a step the owners' values, as layers see them, go to everybody who keeps
  // them. After the masters of this rank's slices were changed from outside, so do these.
  void publish();
  void publish_masters();

  static int64_t master_bytes(const ParamTable& table, int ranks, int64_t zero_stage);
  // What reading takes for a while beside all that stays.
  static int64_t window_bytes(const ParamTable& table, int ranks);

 private:
  bool has_masters() const { return table_.dtype() != DType::kF32; }
  // Are a unit's whole values read, and filled, in place?
  static bool read_in_place(const ParamTable& table) {
    return table.dtype() == DType::kF32 && table.memory().space() == Space::kHost;
  }
  bool filled_in_place() const { return !parts_ && read_in_place(table_); }
  const ParamUnit& unit(int number) const { return table_.units()[static_cast<size_t>(number)]; }
  void keep_filled(int number);
  void hash_frozen(int number, const Tensor& frozen);
  void check_range(const Param& param, const float* values) const;
  void show(int number);
  void show_masters(int number);
  void hide(int number);

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  int64_t zero_stage_;
  std::optional<PartitionedValues> parts_;  // at stage 3
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> masters_;  // of each unit, of what this rank steps
  Fp32Window window_;
  std::vector<uint64_t> frozen_hashes_;  // of each unit, of this rank's slice
};

}  // namespace facet
