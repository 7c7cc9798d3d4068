#include "tests/golden/curve_rig.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/cpu/backend.h"
#include "optim/lr_schedule.h"
#include "tests/golden/hash_weights.h"

namespace facet::golden {
namespace {

// The recorded micro-batches of a curve, again and again; of each step this rank's share.
class CurveSource final : public BatchSource {
 public:
  CurveSource(const GoldenFile& file, const std::string& name, const Communicator& world,
              int64_t micro_batches)
      : per_step_(micro_batches > 0 ? micro_batches
                                    : file.description(name).at("accumulation").as_int()),
        per_rank_(per_step_ / world.size()),
        first_(world.rank() * per_rank_) {
    ASSERT(per_rank_ * world.size() == per_step_, "{} ranks cannot share {} micro-batches",
           world.size(), per_step_);
    const JsonValue description = file.description(name);
    for (int64_t n = 0; n < description.at("micro_batches").as_int(); ++n)
      data_.push_back(batch_of(file, name + "_batch_" + std::to_string(n), description));
  }
  int64_t steps_per_epoch() const override { return 0; }
  std::span<const MicroBatch> fetch_step(int64_t, int64_t step) override {
    window_.clear();
    for (int64_t i = first_; i < first_ + per_rank_; ++i)
      window_.push_back(data_[static_cast<size_t>(step * per_step_ + i) % data_.size()]);
    return window_;
  }
  int64_t num_evaluation_micro_batches() const override { return 0; }
  const MicroBatch& fetch_evaluation(int64_t) override { return data_[0]; }
  std::span<const int64_t> bad_samples_of_last_fetch() const override { return {}; }

 private:
  int64_t per_step_, per_rank_, first_;
  std::vector<MicroBatch> data_, window_;
};

void fill_by_hash(ParamTable& table, const OpenUnit& open) {
  for (Param& param : table.params()) {
    open(param.unit);
    const std::vector<float> values = weight(param.name, param.shape);
    std::copy(values.begin(), values.end(), param.value.f32());
  }
  open(kNoUnit);
}

// What the case says, as the choices would have it computed.
VlmConfig config_for(const JsonValue& description, const CurveChoices& choices) {
  VlmConfig config = config_of(description);
  config.recompute = choices.recompute == CurveChoices::Recompute::kYes;
  return config;
}

GroupOptions group_options(const JsonValue& description, NoDecayRule rule) {
  GroupOptions options;
  options.learning_rate = description.at("learning_rate").as_double();
  options.learning_rate_pretraining_components =
      description.at("learning_rate_pretraining_components").as_double();
  options.weight_decay = description.at("weight_decay").as_double();
  options.rule = rule;
  return options;
}

}  // namespace

ComputeDevice open_cpu(Communicator&) {
  return {std::make_shared<CpuBackend>(1), ComputeDevice::Takes::kFp32};
}

Curve walk_curve(const GoldenFile& file, const std::string& name, const CurveChoices& choices) {
  const JsonValue description = file.description(name);
  Communicator world(choices.ranks);
  ComputeDevice device = choices.open_device(world);
  ParamTable table;
  VisionLanguageModel model(config_for(description, choices), table);
  if (const auto unfreeze = description.find("unfreeze"))
    for (const JsonValue prefix : *unfreeze) table.set_trained(prefix.as_string(), true);
  EngineOptions engine_options;
  engine_options.gradient_clipping = description.at("max_norm").as_double();
  engine_options.compute_dtype = choices.dtype;
  engine_options.zero_stage = choices.zero_stage;
  table.place_in(device.memory());
  Engine::lay_out(table, world.size(), engine_options);

  const GroupOptions options = group_options(description, choices.rule);
  if (is_16_bit(choices.dtype)) device.allocate_panels(int64_t{1} << 26);
  Engine engine(table, make_param_groups(table, options), world, device.plain(), engine_options);
  fill_by_hash(table, engine.filler());
  const int64_t steps = description.at("steps").as_int();
  const LrSchedule schedule(schedule_from_name(std::string(description.at("schedule").as_string())),
                            description.at("warmup").as_int(), steps, options.learning_rate);
  Arena arena("test", choices.activation_bytes, device.memory());
  std::optional<InputBuffers> inputs;
  if (choices.input_bytes > 0) inputs.emplace(device.layers(), choices.input_bytes);
  CurveSource source(file, name, world, choices.micro_batches);
  const FaultInjection no_faults;
  LossScaler scaler{{}};
  TrainStep train_step({.world = world,
                        .source = source,
                        .num_datasets = 1,
                        .model = model,
                        .context = Context{device.layers(), arena, engine, choices.dtype,
                                           inputs ? &*inputs : nullptr},
                        .loss_average = choices.average,
                        .scaler = choices.dtype == DType::kF16 ? &scaler : nullptr,
                        .engine = engine,
                        .schedule = schedule,
                        .faults = no_faults});
  Curve curve;
  for (int64_t step = 0; step < (choices.steps > 0 ? choices.steps : steps); ++step) {
    const StepReport& report = train_step.run(0, step);
    EXPECT_FALSE(report.skipped) << name << " step " << step;
    curve.losses.push_back(report.loss);
    curve.norms.push_back(report.grad_norm);
    choices.after_step();
  }
  return curve;
}

double largest_error(const std::vector<double>& ours, const std::vector<double>& exact) {
  double largest = 0;
  for (size_t step = 0; step < ours.size(); ++step) {
    const double error = std::abs(ours[step] - exact.at(step));
    if (!(error <= largest)) largest = std::isnan(error) ? INFINITY : error;
  }
  return largest;
}

}  // namespace facet::golden
