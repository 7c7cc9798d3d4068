#include "zero/engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "optim/partition.h"

namespace facet {
namespace {

// A piece of a flat buffer as a vector.
Tensor flat_range(Tensor flat, int64_t begin, int64_t count) {
  return Tensor(flat.f32() + begin, {count}, DType::kF32, flat.space());
}

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

int64_t trained_length(const ParamUnit& unit) {
  return unit.trained_values.defined() ? unit.trained_values.numel() : 0;
}

}  // namespace

Engine::Engine(ParamTable& table, std::vector<ParamGroup> groups, Communicator& world, Backend& ops,
               const EngineOptions& options)
    : table_(table), groups_(std::move(groups)), world_(world), ops_(ops), options_(options) {
  memory_ = std::make_unique<Arena>("the optimizer state", optimizer_bytes(table));
  for (const ParamUnit& unit : table.units()) {
    const int64_t length = trained_length(unit);
    ASSERT(length % partition_padding(world.size()) == 0, "unit {} is not padded for {} ranks",
           unit.name, world.size());
    exp_avg_.push_back(memory_->tensor({length}));
    exp_avg_sq_.push_back(memory_->tensor({length}));
    ops_.fill(exp_avg_.back(), 0);
    ops_.fill(exp_avg_sq_.back(), 0);
  }
}

int64_t Engine::optimizer_bytes(const ParamTable& table) {
  Arena plan("the optimizer state");
  for (const ParamUnit& unit : table.units()) {
    plan.tensor({trained_length(unit)});
    plan.tensor({trained_length(unit)});
  }
  return plan.peak();
}

std::vector<StateRange> Engine::owned_state() {
  std::vector<StateRange> ranges;
  for (const Param& param : table_.params()) {
    if (!param.trained) continue;
    const auto unit = static_cast<size_t>(param.unit);
    const ParamUnit& owner = table_.units()[unit];
    const Slice slice = slice_of_rank(trained_length(owner), world_.rank(), world_.size());
    const int64_t begin = std::max(param.offset, slice.begin);
    const int64_t end = std::min(param.offset + param.numel(), slice.begin + slice.count);
    if (begin >= end) continue;
    ranges.push_back({&param, begin - param.offset, end - begin, owner.trained_values.f32() + begin,
                      exp_avg_[unit].f32() + begin, exp_avg_sq_[unit].f32() + begin});
  }
  return ranges;
}

void Engine::publish_state() {
  for (size_t u = 0; u < table_.units().size(); ++u) {
    const ParamUnit& unit = table_.units()[u];
    if (trained_length(unit) == 0) continue;
    const Slice slice = slice_of_rank(trained_length(unit), world_.rank(), world_.size());
    for (const Tensor& whole : {unit.trained_values, exp_avg_[u], exp_avg_sq_[u]})
      world_.all_gather(whole, flat_range(whole, slice.begin, slice.count));
  }
}

void Engine::begin_step() { table_.zero_gradients(); }

GradientVerdict Engine::reduce_gradients() {
  double sum_squares = 0;
  int64_t bad_param = -1;
  for (const ParamUnit& unit : table_.units()) {
    if (trained_length(unit) == 0) continue;
    world_.all_reduce_sum(unit.trained_grads);
    const Slice slice = slice_of_rank(trained_length(unit), world_.rank(), world_.size());
    const GradientStatistics statistics =
        ops_.gradient_statistics(flat_range(unit.trained_grads, slice.begin, slice.count));
    sum_squares += statistics.sum_squares;
    if (statistics.first_non_finite >= 0 && bad_param < 0)
      bad_param = index_of(table_, param_at(unit, slice.begin + statistics.first_non_finite));
  }
  // One exchange: [sum of squares, bad parameter] of every rank.
  const std::vector<double> all =
      world_.all_gather(std::vector<double>{sum_squares, static_cast<double>(bad_param)});
  GradientVerdict verdict;
  double total = 0;
  for (size_t r = 0; r < all.size(); r += 2) {
    total += all[r];
    if (all[r + 1] >= 0 && verdict.first_bad_parameter.empty())
      verdict.first_bad_parameter = table_.params()[static_cast<size_t>(all[r + 1])].name;
  }
  verdict.norm = std::sqrt(total);
  verdict.finite = verdict.first_bad_parameter.empty() && std::isfinite(verdict.norm);
  if (options_.gradient_clipping > 0)
    verdict.clip_factor = 1 / std::max(1.0, (verdict.norm + 1e-6) / options_.gradient_clipping);
  return verdict;
}

void Engine::step(const GradientVerdict& verdict, double lr_factor) {
  ASSERT(verdict.finite, "a step with a non-finite gradient");
  AdamWStep step;
  step.beta1 = options_.beta1;
  step.beta2 = options_.beta2;
  step.eps = options_.eps;
  step.gradient_scale = static_cast<float>(verdict.clip_factor);
  step.t = ++steps_;
  for (const ParamGroup& group : groups_) {
    step.learning_rate = group.learning_rate * lr_factor;
    step.weight_decay = group.weight_decay;
    for (const Param* param : group.params) {
      const auto unit = static_cast<size_t>(param->unit);
      const ParamUnit& owner = table_.units()[unit];
      const int64_t begin = param->offset, count = param->numel();
      ops_.adamw_step(flat_range(owner.trained_values, begin, count),
                      flat_range(exp_avg_[unit], begin, count),
                      flat_range(exp_avg_sq_[unit], begin, count),
                      flat_range(owner.trained_grads, begin, count), step);
    }
  }
}

}  // namespace facet
