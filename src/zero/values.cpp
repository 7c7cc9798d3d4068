#include "zero/values.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/check.h"
#include "zero/host_values.h"
#include "zero/unit_slices.h"
#include "zero/value_hash.h"

namespace facet {

namespace {

constexpr int kMeet = -2;  // in place of a unit: all ranks run what they do together
static_assert(kMeet != kNoUnit);

}  // namespace

int64_t Values::master_bytes(const ParamTable& table, int ranks, const ValueChoices& choices) {
  if (!has_masters(table, choices.offload)) return 0;
  Arena plan("masters");
  for (const ParamUnit& unit : table.units())
    plan.tensor({trained_length(unit) / (choices.zero_stage == 0 ? 1 : ranks)});
  return plan.peak();
}

int64_t Values::window_bytes(const ParamTable& table, int ranks) {
  return read_in_place(table) ? 0 : Fp32Window::bytes(table, ranks);
}

Values::Values(ParamTable& table, Communicator& world, Backend& ops, const ValueChoices& choices,
               const HostSide& host)
    : table_(table),
      world_(world),
      ops_(ops),
      master_ops_(choices.offload.optimizer ? *host.ops : ops),
      zero_stage_(choices.zero_stage),
      window_(table, world.size()),
      frozen_hashes_(table.units().size()) {
  if (zero_stage_ >= 3) parts_.emplace(table, world, ops, choices.stage3, choices.offload, host);
  if (!has_masters(table, choices.offload)) return;
  memory_ =
      std::make_unique<Arena>("masters", master_bytes(table, world.size(), choices),
                              choices.offload.optimizer ? host.copies->memory() : ops.memory());
  for (size_t u = 0; u < table.units().size(); ++u) {
    masters_.push_back(memory_->tensor({stepped(static_cast<int>(u)).count}));
    master_ops_.fill(masters_.back(), 0);
  }
}

// ---- ranges of elements

Slice Values::slice_of(int number) const {
  return slice_of_rank(trained_length(unit(number)), world_.rank(), world_.size());
}

Slice Values::stepped(int number) const {
  return zero_stage_ > 0 ? slice_of(number) : Slice{0, trained_length(unit(number))};
}

Tensor Values::master_at(int number, const Slice& part) const {
  if (has_masters())
    return flat_range(masters_[static_cast<size_t>(number)], part.begin - stepped(number).begin,
                      part.count);
  if (parts_)
    return flat_range(parts_->trained_slice(number), part.begin - slice_of(number).begin,
                      part.count);
  return flat_range(unit(number).trained_values, part);
}

Tensor Values::copy_at(int number, const Slice& part) const {
  if (!has_masters()) return Tensor();
  if (parts_)
    return flat_range(parts_->trained_slice(number), part.begin - slice_of(number).begin,
                      part.count);
  return flat_range(unit(number).trained_values, part);
}

// ---- uses of a unit

void Values::before(int number, Phase phase) {
  if (parts_) parts_->residency().acquire(number, phase);
}

void Values::after(int number) {
  if (parts_) parts_->residency().release(number);
}

void Values::drop_prefetched() {
  if (parts_) parts_->drop_brought();
}

// ---- filling and reading the values

OpenUnit Values::filler() {
  return [this, open = kNoUnit](int number) mutable {
    if (number == open) return;
    if (open != kNoUnit) store_filled(open);
    open = number;
    if (open == kNoUnit) return window_.free();
    if (filled_in_place()) return;
    window_.open(open);
    // The padding is part of the slices, and of the norms.
    for (const Tensor& part : {window_.trained(), window_.frozen()})
      if (part.numel() > 0) host_memory().zero(part.raw(), part.bytes());
  };
}

void Values::store_filled(int number) {
  if (filled_in_place()) return hash_frozen(number, unit(number).frozen_values);
  const Tensor trained = window_.trained(), frozen = window_.frozen();
  hash_frozen(number, frozen);
  window_.close();
  const ParamUnit& kept = unit(number);
  for (const Param* param : kept.params)
    check_range(*param, (param->trained ? trained : frozen).f32() + param->offset);
  if (has_masters())
    store_values(master_ops_, masters_[static_cast<size_t>(number)],
                 flat_range(trained, stepped(number)));
  if (parts_) return parts_->store(number, trained, frozen);
  store_values(ops_, kept.trained_values, trained);
  store_values(ops_, kept.frozen_values, flat_range(frozen, 0, kept.frozen_values.numel()));
}

// A value that rounding to fp16 would make infinite cannot be trained from.
void Values::check_range(const Param& param, const float* values) const {
  constexpr float kRoundsToInfinity = 65520;  // between fp16's largest number and 2^16
  if (param.value.dtype() != DType::kF16) return;
  const float* const end = values + param.numel();
  const float* const found = std::find_if(
      values, end, [](float x) { return std::isfinite(x) && std::abs(x) >= kRoundsToInfinity; });
  CHECK(found == end, ExitCode::kConfig,
        "{}: element {} is {}, more than fp16 holds (65504); use --precision bf16 or fp32",
        param.name, found - values, *found);
}

// Each rank hashes its own slice, even where it keeps more.
void Values::hash_frozen(int number, const Tensor& frozen) {
  const Slice own =
      slice_of_rank(frozen_length(unit(number), world_.size()), world_.rank(), world_.size());
  uint64_t sum = 0;
  for (const Param* param : unit(number).params) {
    if (param->trained) continue;
    const Slice part = overlap({param->offset, param->numel()}, own);
    if (part.count > 0)
      sum += value_hash(*param, part.begin - param->offset, frozen.f32() + part.begin, part.count);
  }
  frozen_hashes_[static_cast<size_t>(number)] = sum;
}

uint64_t Values::frozen_hash(std::string_view unit_prefix) {
  uint64_t sum = 0;
  for (size_t u = 0; u < frozen_hashes_.size(); ++u)
    if (table_.units()[u].name.starts_with(unit_prefix)) sum += frozen_hashes_[u];
  return static_cast<uint64_t>(world_.sum(static_cast<int64_t>(sum)));
}

// Rank 0 broadcasts what it wants next: a unit, where the values are partitioned and all ranks
// gather it; to meet; or kNoUnit, the end.
void Values::read_on_rank_0(const Work& work, const Meet& together) {
  const std::exception_ptr error =
      world_.rank() == 0 ? lead_reading(work, together) : follow_reading(together);
  window_.free();
  if (error) std::rethrow_exception(error);
}

int Values::agree_on(int wanted) { return static_cast<int>(world_.broadcast(int64_t{wanted}, 0)); }

std::exception_ptr Values::lead_reading(const Work& work, const Meet& together) {
  const bool shared = parts_ || (has_masters() && zero_stage_ > 0);
  int open = kNoUnit;
  std::exception_ptr error;
  try {
    work(
        [&](int unit) {
          if (unit != open) read_next(open, shared ? agree_on(unit) : unit);
        },
        [&] {
          agree_on(kMeet);
          together();
        });
  } catch (...) {
    error = std::current_exception();
  }
  read_next(open, agree_on(kNoUnit));
  return error;
}

// An error of a meeting is rank 0's too, which then ends the reading.
std::exception_ptr Values::follow_reading(const Meet& together) {
  int open = kNoUnit;
  std::exception_ptr error;
  for (int wanted = agree_on(kNoUnit); wanted != kNoUnit; wanted = agree_on(kNoUnit)) {
    if (wanted != kMeet) {
      read_next(open, wanted);
      continue;
    }
    try {
      together();
    } catch (...) {
      error = std::current_exception();
    }
  }
  read_next(open, kNoUnit);
  return error;
}

void Values::read_next(int& open, int number) {
  if (open != kNoUnit) close_read(open);
  open = number;
  if (open != kNoUnit) open_to_read(open);
}

void Values::open_to_read(int number) {
  if (parts_) parts_->residency().acquire_outside_pass(number);
  if (read_in_place(table_)) return;
  window_.open(number);
  if (has_masters())
    read_masters(number);
  else
    read_values(ops_, window_.trained(), window_.stored_trained());
  read_values(ops_, unit(number).frozen_values, window_.stored_frozen());
}

void Values::read_masters(int number) {
  const Tensor whole = window_.trained(), own = flat_range(whole, stepped(number));
  read_values(master_ops_, own, masters_[static_cast<size_t>(number)]);
  if (zero_stage_ > 0 && own.numel() > 0) world_.all_gather(whole, own);
}

void Values::close_read(int number) {
  if (!read_in_place(table_)) window_.close();
  if (parts_) parts_->residency().release(number);
}

// ---- changed values

void Values::publish() {
  if (parts_) return parts_->publish();
  for (size_t u = 0; u < table_.units().size(); ++u) {
    const Tensor& all = table_.units()[u].trained_values;
    if (all.numel() > 0) world_.all_gather(all, flat_range(all, slice_of(static_cast<int>(u))));
  }
}

void Values::publish_masters() {
  if (!has_masters()) return publish();
  for (size_t u = 0; u < table_.units().size(); ++u) {
    const auto number = static_cast<int>(u);
    const Tensor& masters = masters_[u];
    if (masters.numel() == 0) continue;
    if (zero_stage_ == 0) world_.all_gather(masters, flat_range(masters, slice_of(number)));
    const Tensor seen = copy_at(number, stepped(number));
    if (masters.space() == Space::kHost)
      store_values(copy_on_host(number) ? master_ops_ : ops_, seen, masters);
    else
      ops_.copy(seen, masters);
  }
  if (zero_stage_ > 0) publish();
}

}  // namespace facet
