#include "zero/engine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "base/progress.h"
#include "zero/unit_slices.h"
#include "zero/zero_plan.h"

namespace facet {
namespace {

// The parameter that holds element `offset` of the unit's trained buffer.
const Param& param_at(const ParamUnit& unit, int64_t offset) {
  for (const Param* param : unit.params)
    if (param->trained && offset >= param->offset && offset < param->offset + param->numel())
      return *param;
  fail(ExitCode::kInternal, "unit {}: no trained parameter at element {}", unit.name, offset);
}

int64_t index_of(const ParamTable& table, const Param& wanted) {
  int64_t index = 0;
  for (const Param& param : table.params()) {
    if (&param == &wanted) return index;
    ++index;
  }
  return -1;
}

GradientLayout gradient_layout(const EngineOptions& options) {
  if (options.zero_stage == 0) return GradientLayout::kAllReduced;
  return options.zero_stage == 1 ? GradientLayout::kReduceScattered : GradientLayout::kPartitioned;
}

ReduceWhen reduce_when(const EngineOptions& options) {
  return options.zero_stage >= 2 || options.reduce_every_micro_batch ? ReduceWhen::kEveryMicroBatch
                                                                     : ReduceWhen::kOncePerStep;
}

}  // namespace

void Engine::lay_out(ParamTable& table, int ranks, const EngineOptions& options,
                     ParamTable::Memory memory) {
  using Memory = ParamTable::Memory;
  table.allocate(partition_padding(ranks), options.zero_stage >= 3 ? Memory::kMeasureOnly : memory,
                 options.compute_dtype);
  table.allocate_gradients(options.zero_stage >= 2 ? Memory::kMeasureOnly : memory);
}

Engine::Engine(ParamTable& table, std::vector<ParamGroup> groups, Communicator& world, Backend& ops,
               const EngineOptions& options, const HostSide& host)
    : table_(table),
      groups_(std::move(groups)),
      world_(world),
      ops_(ops),
      options_(options),
      values_(table, world, ops, options.values(), host),
      gradients_(table, world, ops, gradient_layout(options), reduce_when(options),
                 options.reduction),
      mirror_(ops, options.offload.optimizer ? Space::kHost : ops.memory().space()) {
  ASSERT(table.memory().space() == ops.memory().space(),
         "parameters and operators are in different memory");
  const bool offloads = options.offload.optimizer;
  if (offloads)
    offloaded_.emplace(host, table.dtype(),
                       OffloadedStep::longest(table, world.size(), options.zero_stage),
                       options.offload.chunk_elements);
  memory_ = std::make_unique<Arena>("the optimizer state",
                                    moment_bytes(table, world.size(), options.zero_stage),
                                    offloads ? host.copies->memory() : ops.memory());
  for (size_t u = 0; u < table.units().size(); ++u) {
    if (trained_length(table.units()[u]) > 0) trained_units_.push_back(static_cast<int>(u));
    ASSERT(trained_length(table.units()[u]) % partition_padding(world.size()) == 0,
           "unit {} is not padded for {} ranks", table.units()[u].name, world.size());
    const int64_t length = values_.stepped(static_cast<int>(u)).count;
    for (std::vector<Tensor>* moment : {&exp_avg_, &exp_avg_sq_}) {
      moment->push_back(memory_->tensor({length}));
      if (length > 0) (offloads ? *host.ops : ops_).fill(moment->back(), 0);
    }
  }
}

// ---- ranges of elements

Tensor Engine::gradient_at(int unit, const Slice& part) const {
  if (options_.zero_stage > 0)
    return flat_range(gradients_.slice(unit), part.begin - values_.slice_of(unit).begin,
                      part.count);
  return flat_range(table_.units()[static_cast<size_t>(unit)].trained_grads, part);
}

Tensor Engine::moment_at(const std::vector<Tensor>& moment, int unit, const Slice& part) const {
  return flat_range(moment[static_cast<size_t>(unit)], part.begin - values_.stepped(unit).begin,
                    part.count);
}

// ---- the hooks that the model calls

void Engine::before(int unit, Phase phase) {
  note_progress();
  world_.progress();
  values_.before(unit, phase);
  if (phase == Phase::kBackward) gradients_.backward_begins(unit);
}

void Engine::after(int unit, Phase) {
  world_.progress();
  values_.after(unit);
}

void Engine::gradients_ready(int unit) { gradients_.micro_batch_ready(unit); }

// ---- the state that checkpoints save and load

std::vector<StateRange> Engine::owned_state() {
  values_.drop_prefetched();
  std::vector<StateRange> ranges;
  std::vector<Tensor> parts;  // three per range
  for (const Param& param : table_.params()) {
    if (!param.trained) continue;
    const Slice own = overlap({param.offset, param.numel()}, values_.slice_of(param.unit));
    if (own.count == 0) continue;
    ranges.push_back({&param, own.begin - param.offset, own.count});
    parts.push_back(values_.master_at(param.unit, own));
    for (const std::vector<Tensor>* moment : {&exp_avg_, &exp_avg_sq_})
      parts.push_back(moment_at(*moment, param.unit, own));
  }
  const std::vector<float*> shown = mirror_.show(parts);
  for (size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].value = shown[3 * i];
    ranges[i].exp_avg = shown[3 * i + 1];
    ranges[i].exp_avg_sq = shown[3 * i + 2];
  }
  return ranges;
}

void Engine::publish_state() {
  mirror_.write_back();
  values_.publish_masters();
  if (options_.zero_stage > 0) return;
  for (size_t u = 0; u < table_.units().size(); ++u)
    for (const Tensor& moment : {exp_avg_[u], exp_avg_sq_[u]})
      if (moment.numel() > 0)
        world_.all_gather(moment, flat_range(moment, values_.slice_of(static_cast<int>(u))));
}

// ---- the step

// The index of the parameter that holds element `place` of this rank's slice of the unit.
int64_t Engine::parameter_at(int unit, int64_t place) const {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(unit)];
  return index_of(table_, param_at(layout, values_.slice_of(unit).begin + place));
}

void Engine::begin_step(int64_t micro_batches) { gradients_.begin_step(micro_batches); }

GradientVerdict Engine::reduce_gradients(double loss_scale) {
  gradients_.finish();
  slices_.clear();
  for (const int unit : trained_units_) slices_.push_back(gradients_.slice(unit));
  statistics_.resize(slices_.size());
  ops_.gradient_statistics(statistics_, slices_);
  double sum_squares = 0;
  int64_t bad_param = -1;
  for (size_t i = 0; i < statistics_.size(); ++i) {
    sum_squares += statistics_[i].sum_squares;
    if (statistics_[i].first_non_finite >= 0 && bad_param < 0)
      bad_param = parameter_at(trained_units_[i], statistics_[i].first_non_finite);
  }
  // One all-gather of every rank's [sum of squares, index of the first non-finite parameter].
  const std::array<double, 2> mine = {sum_squares, static_cast<double>(bad_param)};
  const std::span<const double> all = world_.all_gather(mine);
  GradientVerdict verdict;
  double total = 0;
  for (size_t r = 0; r < all.size(); r += 2) {
    total += all[r];
    if (all[r + 1] >= 0 && verdict.first_bad_parameter.empty())
      verdict.first_bad_parameter = table_.params()[static_cast<size_t>(all[r + 1])].name;
  }
  verdict.loss_scale = loss_scale;
  verdict.norm = std::sqrt(total) / loss_scale;
  verdict.finite = verdict.first_bad_parameter.empty() && std::isfinite(verdict.norm);
  if (options_.gradient_clipping > 0)
    verdict.clip_factor = 1 / std::max(1.0, (verdict.norm + 1e-6) / options_.gradient_clipping);
  return verdict;
}

// Parameters that adjoin in a unit's buffer are stepped together: AdamW knows elements only.
void Engine::step_group(const ParamGroup& group, const AdamWStep& step) {
  const std::vector<Param*>& params = group.params;
  for (size_t i = 0; i < params.size();) {
    const int unit = params[i]->unit;
    Slice run{params[i]->offset, 0};
    for (;
         i < params.size() && params[i]->unit == unit && params[i]->offset == run.begin + run.count;
         ++i)
      run.count += params[i]->numel();
    step_run(unit, overlap(run, values_.stepped(unit)), step);
  }
}

void Engine::step_run(int unit, const Slice& part, const AdamWStep& step) {
  if (part.count == 0) return;
  const OffloadedStep::Vectors at{values_.master_at(unit, part),
                                  moment_at(exp_avg_, unit, part),
                                  moment_at(exp_avg_sq_, unit, part),
                                  values_.copy_at(unit, part),
                                  gradient_at(unit, part),
                                  values_.copy_on_host(unit)};
  if (offloaded_) return offloaded_->run(at, step);
  ops_.adamw_step(at.master, at.exp_avg, at.exp_avg_sq, at.value, at.grad, step);
}

void Engine::step(const GradientVerdict& verdict, double lr_factor) {
  ASSERT(verdict.finite, "a step with a non-finite gradient");
  values_.drop_prefetched();
  AdamWStep step;
  step.beta1 = options_.beta1;
  step.beta2 = options_.beta2;
  step.eps = options_.eps;
  step.gradient_scale = static_cast<float>(verdict.clip_factor / verdict.loss_scale);
  step.t = ++steps_;
  for (const ParamGroup& group : groups_) {
    step.learning_rate = group.learning_rate * lr_factor;
    step.weight_decay = group.weight_decay;
    step_group(group, step);
  }
  if (offloaded_) offloaded_->finish();
  if (options_.zero_stage > 0) values_.publish();
}

}  // namespace facet
