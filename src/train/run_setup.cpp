#include "train/run_setup.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "data/bad_samples.h"
#include "data/probe.h"
#include "io/file.h"
#include "train/data_debug.h"
#include "train/names_of_run.h"

namespace facet {
namespace {

DType dtype_of(const std::string& name) {
  if (name == name_of(DType::kBF16)) return DType::kBF16;
  return name == name_of(DType::kF16) ? DType::kF16 : DType::kF32;
}

}  // namespace

StepPlan plan_steps(const Options& options, const BatchSource& source) {
  StepPlan plan;
  plan.steps_per_epoch = source.steps_per_epoch();
  CHECK(plan.steps_per_epoch > 0, ExitCode::kBadData, "there is no sample to train on");
  plan.total_steps = plan.steps_per_epoch * options.num_train_epochs;
  if (options.max_steps > 0) plan.total_steps = std::min(plan.total_steps, options.max_steps);
  plan.warmup_steps = resolve_warmup_steps(options.num_warmup_steps, plan.total_steps);
  return plan;
}

std::string samples_of_step_text(const Options& options, int64_t ranks) {
  const int64_t samples = options.samples_of_rank() * ranks;
  if (options.by_tokens())
    return fmt::format("a step has {} samples (dealt to {} ranks, in micro-batches of {} tokens)",
                       samples, ranks, options.tokens_per_micro_batch);
  return fmt::format("a step has {} samples ({} a micro-batch x {} ranks x {} micro-batches)",
                     samples, options.per_device_train_batch_size, ranks,
                     options.gradient_accumulation_steps);
}

std::string StepPlan::text(const Options& options, int ranks) const {
  return fmt::format("{} steps, {} of them warm-up; {} a pass over the data; {}", total_steps,
                     warmup_steps, steps_per_epoch, samples_of_step_text(options, ranks));
}

LrSchedule make_schedule(const Options& options, const StepPlan& plan) {
  return LrSchedule(schedule_from_name(options.lr_scheduler_type), plan.warmup_steps,
                    plan.total_steps, options.learning_rate);
}

LossScalerOptions scaler_options(const Options& options) {
  return {options.loss_scale, std::pow(2.0, static_cast<double>(options.initial_scale_power)),
          options.loss_scale_window, options.hysteresis, options.min_loss_scale};
}

namespace {

// On GPUs a bucket of fp32 has 64 MB: smaller ones take NCCL longer to start than to send.
ReductionOptions reduction_options(const Options& options) {
  const bool by_device = options.reduce_bucket_size == 0;
  const bool overlap = options.overlap_comm || (by_device && options.on_gpu());
  const int64_t standard = options.on_gpu() ? 16'000'000 : 2'000'000;
  return {by_device ? standard : options.reduce_bucket_size, overlap ? Overlap::kYes : Overlap::kNo,
          dtype_of(options.communication_data_type)};
}

}  // namespace

EngineOptions engine_options(const Options& options) {
  EngineOptions engine;
  engine.beta1 = options.adam_betas[0];
  engine.beta2 = options.adam_betas[1];
  engine.eps = options.adam_eps;
  engine.gradient_clipping = options.gradient_clipping;
  engine.zero_stage = options.zero_stage;
  engine.reduce_every_micro_batch = options.reduce_every_micro_batch;
  engine.stage3 = {options.stage3_param_persistence_threshold,
                   {options.stage3_prefetch_bucket_size, options.stage3_max_live_parameters}};
  engine.compute_dtype = compute_dtype(options);
  engine.reduction = reduction_options(options);
  engine.offload.optimizer = options.offloads_optimizer();
  engine.offload.params = options.on_gpu() && options.offload_param == "cpu";
  return engine;
}

HangLimits hang_limits(const Options& options) {
  HangLimits limits;
  limits.host = options.hang_seconds_host;
  limits.collective = options.hang_seconds_collective;
  limits.of(Section::kLoad) = options.hang_seconds_load;
  limits.of(Section::kData) = options.hang_seconds_data;
  for (const Section section : {Section::kCompute, Section::kUpdate})
    limits.of(section) = options.hang_seconds_compute;
  limits.of(Section::kEvaluate) = options.hang_seconds_evaluate;
  for (const Section section : {Section::kSave, Section::kLog})
    limits.of(section) = options.hang_seconds_save;
  return limits;
}

void tidy_output_directory(const std::string& output_dir) {
  tidy_directory(output_dir, kNamesOfRun);
}

std::vector<ParamGroup> make_groups(const Options& options, ParamTable& table) {
  GroupOptions groups;
  groups.learning_rate = options.learning_rate;
  groups.learning_rate_pretraining_components = options.learning_rate_pretraining_components;
  groups.lora_plus_ratio = options.lora_plus_ratio;
  groups.weight_decay = options.weight_decay;
  groups.rule = options.visualchat() ? NoDecayRule::kVisualChat : NoDecayRule::kBiasAndNorms;
  return make_param_groups(table, groups);
}

void check_data_sets(const Options& options, const DataSetup& data) {
  constexpr int64_t kRecords = 10;  // of each data set
  if (data.table == nullptr) return;
  probe_datasets(*data.table, *data.builder, options.max_num_image_per_sample, kRecords);
}

void write_debug_samples(const Options& options, const ModelSetup& model, const DataSetup& data) {
  constexpr int64_t kSamples = 10;
  if (options.data_debug_path.empty()) return;
  write_debug_samples(options.data_debug_path,
                      {*data.table, *data.builder, *model.tokenizer, *model.preprocessor,
                       options.max_num_image_per_sample, options.max_image_pixels},
                      kSamples);
}

std::string bad_samples_text(const std::vector<std::string>& names,
                             const std::vector<int64_t>& counts) {
  std::string text;
  for (size_t d = 0; d < counts.size(); ++d)
    if (counts[d] > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", names[d], counts[d]);
  return text;
}

void check_bad_fraction(const Options& options, const DataSetup& data, const EvalReport& report) {
  if (data.table == nullptr) return;
  BadSampleBudget(data.names, data.table->num_samples(Split::kEvaluation), options.max_bad_fraction)
      .charge(0, report.bad_samples);
}

std::string groups_text(const std::vector<ParamGroup>& groups, const ParamTable& table) {
  std::string text =
      fmt::format("trained: {} elements, frozen: {}\n  {:<16}{:>12}{:>16}{:>12}{:>12}",
                  table.trained_elements(), table.frozen_elements(), "group", "parameters",
                  "elements", "decay", "rate");
  for (const ParamGroup& group : groups)
    text += fmt::format("\n  {:<16}{:>12}{:>16}{:>12g}{:>12g}", group.name, group.params.size(),
                        group.elements, group.weight_decay, group.learning_rate);
  return text;
}

}  // namespace facet
