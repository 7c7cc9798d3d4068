// The parameter values in every form that training keeps: as the layers see them, in full or (stage
// 3) partitioned; and with 16-bit layers the fp32 masters of the elements this rank updates.
// Loading and saving code sees fp32, one unit at a time.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "nn/context.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "optim/partition.h"
#include "zero/fp32_window.h"
#include "zero/offload.h"
#include "zero/partitioned_values.h"

namespace facet {

struct ValueChoices {
  int64_t zero_stage = 0;
  ValueLimits stage3;
  OffloadChoices offload;
};

class Values {
 public:
  // At stage 3 the table must have been laid out with Memory::kMeasureOnly.
  // With the optimizer offloaded the masters are the host's, with the parameters the slices too.
  Values(ParamTable& table, Communicator& world, Backend& ops, const ValueChoices& choices,
         const HostSide& host = {});

  // Around each use of a unit: stage 3 gathers it before and may drop it after.
  void before(int unit, Phase phase);
  void after(int unit);
  // Drops prefetched units: the values are about to change.
  void drop_prefetched();

  // Collective, outside passes and at stage 3: gathers a unit into memory of the caller's, until it
  // is dropped (zero/unit_window.h).
  void gather_into(int unit, const Tensor& place) { parts_->gather_into(unit, place); }
  void drop(int unit) { parts_->drop(unit); }

  // To fill the values of all units, with the same values on every rank.
  OpenUnit filler();
  // Collective: rank 0 runs `work`, which may open any unit and read its full values. Whenever it
  // calls `meet`, all ranks run `together`; an error of that must be one that all of them throw.
  using Meet = std::function<void()>;
  using Work = std::function<void(const OpenUnit&, const Meet&)>;
  void read_on_rank_0(const Work& work, const Meet& together);
  // Collective: hash of the frozen values as they were filled, before any rounding.
  uint64_t frozen_hash(std::string_view unit_prefix = "");

  // Ranges of the unit's trained buffer: this rank's slice, and what this rank's optimizer updates
  // (its slice; at stage 0 the whole buffer).
  Slice slice_of(int unit) const;
  Slice stepped(int unit) const;
  // For a part of what this rank updates (a range of the unit's trained buffer): the fp32 values,
  // and with masters the values that the layers see, rounded to their type (else undefined).
  Tensor master_at(int unit, const Slice& part) const;
  Tensor copy_at(int unit, const Slice& part) const;
  // Are those on the host although the layers are on a device?
  bool copy_on_host(int unit) const { return parts_ && parts_->slices_on_host(unit); }

  // Collective: publish() all-gathers the values that the layers see, after every rank has updated
  // its slice. publish_masters() does so after the masters of this rank's slices were changed from
  // outside, as by loading a checkpoint.
  void publish();
  void publish_masters();

  static int64_t master_bytes(const ParamTable& table, int ranks, const ValueChoices& choices);
  // Temporary memory that reading and filling take on top of the rest.
  static int64_t window_bytes(const ParamTable& table, int ranks);

 private:
  // 16-bit layers have them, and so has a device in fp32 whose optimizer is the host's.
  static bool has_masters(const ParamTable& table, const OffloadChoices& offload) {
    return table.dtype() != DType::kF32 || offload.optimizer;
  }
  bool has_masters() const { return !masters_.empty(); }
  // Are a unit's values read, and below stage 3 filled, in place?
  static bool read_in_place(const ParamTable& table) {
    return table.dtype() == DType::kF32 && table.memory().space() == Space::kHost;
  }
  bool filled_in_place() const { return !parts_ && !has_masters() && read_in_place(table_); }
  const ParamUnit& unit(int number) const { return table_.units()[static_cast<size_t>(number)]; }
  void store_filled(int number);
  void hash_frozen(int number, const Tensor& frozen);
  void check_range(const Param& param, const float* values) const;
  int agree_on(int wanted);
  std::exception_ptr lead_reading(const Work& work, const Meet& together);
  std::exception_ptr follow_reading(const Meet& together);
  void read_next(int& open, int number);
  void open_to_read(int number);
  void read_masters(int number);
  void close_read(int number);

  ParamTable& table_;
  Communicator& world_;
  Backend& ops_;
  Backend& master_ops_;  // where the masters are
  int64_t zero_stage_;
  std::optional<PartitionedValues> parts_;  // at stage 3
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> masters_;  // per unit: of the elements this rank updates
  Fp32Window window_;
  std::vector<uint64_t> frozen_hashes_;  // per unit: of this rank's slice
};

}  // namespace facet
