#include "train/run_costs.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked_math.h"
#include "checkpoint/background_write.h"
#include "data/image.h"
#include "train/feature_cache_setup.h"
#include "train/run_setup.h"
#include "train/sampling_plan.h"
#include "zero/zero_plan.h"

namespace facet {

std::string MemoryPlan::text() const {
  std::string lines = "memory of each rank";
  const auto line = [&](const char* name, int64_t bytes) {
    lines += fmt::format("\n  {:<12}{:>14}", name, bytes_text(bytes));
  };
  line("parameters", values);
  line("gradients", gradients);
  line("optimizer", optimizer);
  line("gathered", gathered);
  line("buckets", buckets);
  line("activations", activations);
  if (sampling > 0) line("sampling", sampling);
  if (inputs > 0) line("inputs", inputs);
  if (panels > 0) line("panels", panels);
  if (window > 0) line("fp32 window", window);
  if (snapshot > 0) line("snapshot", snapshot);
  if (staging > 0) line("staging", staging);
  line("together", total());
  if (space == Space::kDevice) {
    line("CUDA", runtime);
    line("on the GPU", on_device());
  }
  if (page_locked > 0) {
    lines += fmt::format("; without offload {}", bytes_text(on_device() + saved));
    line("page-locked", page_locked);
    lines += " of the host's";
  }
  if (decoding > 0) {
    line("decoding", decoding);
    lines += " more of the host's, at most: all workers with an image of --max_image_pixels";
  }
  return lines;
}

int64_t gpu_runtime_bytes(int ranks) {
  constexpr int64_t kMiB = 1 << 20;
  constexpr int64_t kContext = 550 * kMiB, kProducts = 32 * kMiB, kScratch = 64 * kMiB,
                    kNccl = 400 * kMiB;
  return kContext + kProducts + kScratch + (ranks > 1 ? kNccl : 0);
}

namespace {

int64_t steps_of(int64_t size, int64_t step) { return (size + step - 1) / step; }

int64_t most_rows(const Options& options) {
  const BatchLimits limits = train_limits(options);
  return limits.rows > 0 ? limits.rows : limits.samples * limits.max_seq_len;
}

constexpr int64_t kSliceCols = 512;

// LoRA's left factors of the layers with one input.
struct LeftFactors {
  int64_t rank = 0, slices = 0;

  // What kernels/cuda/lora_slices.h leaves of a slice of columns: for each row its share of du, and
  // for each range of rows its share of dleft.
  int64_t sums(int64_t rows) const {
    constexpr int64_t kStepRows = 64, kLeastSteps = 8, kBlocks = 256;
    if (slices == 0 || rank > 32 || rank % 8 != 0) return 0;
    const int64_t steps = steps_of(rows, kStepRows);
    const int64_t most = std::min(steps_of(kBlocks, slices), steps_of(steps, kLeastSteps));
    const int64_t ranges = steps_of(steps, steps_of(steps, most));
    return slices * (steps * kStepRows * rank + ranges * kSliceCols * (rank <= 16 ? 16 : 32));
  }
};

}  // namespace

int64_t joint_attention_bytes(const Options& options, const LlamaConfig& lm) {
  constexpr int64_t kHeadWidth = 128, kBlockRows = 64;
  if (!options.on_gpu() || options.attention_backward != "joint" || lm.head_dim != kHeadWidth)
    return 0;
  return steps_of(most_rows(options), kBlockRows) * kBlockRows * lm.num_attention_heads *
         kHeadWidth * int64_t{sizeof(float)};
}

namespace {

// Of the vision encoder, which takes all images of a micro-batch together.
int64_t most_vision_rows(const Options& options, const VlmConfig& config) {
  const VisionTraits& traits = config.vision.traits();
  const int64_t grid = config.image_size / config.vision.patch_size;
  const int64_t tokens = grid * grid + (traits.class_token ? 1 : 0);
  return most_images_together(config, train_limits(options)) *
         (traits.pool ? std::max(tokens, config.vision.pool_queries) : tokens);
}

// Elements of the sums in backward of what this prefix names. Factors of joined layers follow one
// another in the table.
int64_t lora_sums(const ParamTable& table, std::string_view prefix, int64_t rows) {
  int64_t most = 0;
  LeftFactors joined;
  for (const Param& param : table.params()) {
    if (param.role != ParamRole::kLora || !param.name.starts_with(prefix)) {
      joined = {};
      continue;
    }
    if (!param.name.ends_with(".lora_left_weight")) continue;
    if (param.shape[0] != joined.rank) joined = {.rank = param.shape[0]};
    joined.slices += steps_of(param.shape[1], kSliceCols);
    most = std::max(most, joined.sums(rows));
  }
  return most;
}

}  // namespace

int64_t lora_sums_bytes(const Options& options, const ModelSetup& model) {
  if (!options.on_gpu() || !is_16_bit(model.table.dtype())) return 0;
  int64_t most = lora_sums(model.table, "lang_decoder.", most_rows(options));
  if (trains_vision(model.table))
    most = std::max(most, lora_sums(model.table, "vis_encoder.",
                                    most_vision_rows(options, model.model->config())));
  return most * int64_t{sizeof(float)};
}

namespace {

BatchLimits with_features(BatchLimits limits, const Options& options, const ModelSetup& model) {
  if (keeps_features(options, model)) limits.given = BatchLimits::Given::kSome;
  return limits;
}

PassMemory measure_training_at_rest(const Options& options, ModelSetup& model,
                                    const MeasuredPass& pass) {
  BatchLimits limits = train_limits(options);
  limits.given = BatchLimits::Given::kAll;
  model.model->set_vision(VisionWork::kAtRest);
  const PassMemory memory = measure_training(*model.model, limits, pass);
  model.model->set_vision(VisionWork::kCalled);
  return memory;
}

// Buffers for gathered units grow when a unit finds none that is large enough, and what is
// prefetched depends on the pass before: so how large they are in the end depends on the order of
// the passes. A new run evaluates first, a continued one trains first. With a cache of features the
// vision encoder rests in some passes, from the first on or later.
int64_t gathered_in_any_order(const Options& options, const EngineOptions& engine,
                              ModelSetup& model, int ranks) {
  int64_t bytes = 0;
  for (const bool evaluates_first : {true, false})
    for (const bool rests_first : {true, false}) {
      if (rests_first && !keeps_features(options, model)) continue;
      MeasuringHooks hooks(model.table, ranks, engine);
      const MeasuredPass pass{hooks, engine.compute_dtype};
      const auto evaluate = [&] { measure_evaluation(*model.model, eval_limits(options), pass); };
      const auto rest = [&] {
        if (keeps_features(options, model)) measure_training_at_rest(options, model, pass);
      };
      if (evaluates_first) evaluate();
      if (rests_first) rest();
      for (int turn = 0; turn < 2; ++turn) {
        measure_training(*model.model, train_limits(options), pass);
        evaluate();
        rest();
      }
      bytes = std::max(bytes, hooks.gathered_bytes());
    }
  return bytes;
}

// Without workers the step decodes for itself.
int64_t decoding_bytes(const Options& options) {
  if (!options.replay.empty()) return 0;
  return std::max<int64_t>(options.num_workers, 1) * max_decoding_bytes(options.max_image_pixels);
}

void count_offload(const Options& options, const ParamTable& table, int ranks,
                   const ZeroBytes& kept, MemoryPlan& memory) {
  EngineOptions engine = engine_options(options);
  if (!engine.offload.optimizer) return;
  memory.staging = kept.staging;
  memory.page_locked = kept.staging + kept.optimizer + kept.values_on_host;
  memory.gathered += kept.uploads;
  engine.offload = {};
  const ZeroBytes without = planned_bytes(table, ranks, engine);
  memory.saved = without.optimizer + kept.values_on_host - kept.uploads;
}

// Answers are found when no step is under way, and work in the same memory.
void count_sampling(const Options& options, const PassMemory& answers, MemoryPlan& memory) {
  memory.sampling = std::max<int64_t>(answers.activations - memory.activations, 0);
  if (!options.on_gpu()) memory.panels = std::max(memory.panels, answers.panels);
}

}  // namespace

BatchSource* replay_of(const Options& options, const DataSetup& data) {
  return options.replay.empty() ? nullptr : data.source.get();
}

RunCosts plan_costs(const Options& options, ModelSetup& model, BatchSource* replay, int ranks,
                    const Questions* questions) {
  const EngineOptions engine = engine_options(options);
  const ZeroBytes kept = planned_bytes(model.table, ranks, engine);
  MeasuringHooks training(model.table, ranks, engine);
  RunCosts costs;
  costs.memory = {kept.values, kept.gradients, kept.optimizer};
  costs.memory.space = options.on_gpu() ? Space::kDevice : Space::kHost;
  UnitHooks resident;
  const InputsIn inputs = options.on_gpu() ? InputsIn::kBuffers : InputsIn::kArena;
  const MeasuredPass train_pass{training, engine.compute_dtype, inputs};
  PassMemory passes =
      replay != nullptr
          ? measure_replay(*model.model, *replay, train_pass)
          : larger_of(
                measure_training(*model.model, with_features(train_limits(options), options, model),
                                 train_pass),
                measure_evaluation(*model.model,
                                   with_features(eval_limits(options), options, model),
                                   {resident, engine.compute_dtype, inputs}));
  // Features come in the place of pixels, and may be larger.
  if (replay == nullptr && keeps_features(options, model))
    passes = larger_of(
        passes, measure_training_at_rest(options, model, {resident, engine.compute_dtype, inputs}));
  costs.memory.activations = passes.activations;
  costs.memory.inputs = Backend::kInputBuffers * passes.inputs;
  costs.memory.panels = options.on_gpu() ? 0 : passes.panels;
  if (questions != nullptr)
    count_sampling(options, plan_sampling(options, model, *questions, ranks).memory, costs.memory);
  costs.memory.window = options.on_gpu() ? Fp32Window::bytes(model.table, ranks) : kept.window;
  costs.memory.gathered = training.gathered_bytes();
  if (replay == nullptr && engine.zero_stage >= 3)
    costs.memory.gathered = gathered_in_any_order(options, engine, model, ranks);
  costs.memory.buckets = training.bucket_bytes();
  count_offload(options, model.table, ranks, kept, costs.memory);
  if (options.async_checkpoint || (options.on_gpu() && !engine.offload.optimizer))
    costs.memory.snapshot = Snapshot::bytes_for(owned_elements(model.table, ranks));
  if (options.on_gpu())
    costs.memory.runtime = gpu_runtime_bytes(ranks) + lora_sums_bytes(options, model) +
                           joint_attention_bytes(options, model.model->config().lm);
  costs.memory.decoding = decoding_bytes(options);
  costs.elements_per_step =
      planned_elements(model.table, ranks, engine, micro_batches_of_step(options),
                       training.gathers_per_micro_batch());
  return costs;
}

RunCosts largest_of_all_ranks(RunCosts costs, Communicator& world) {
  MemoryPlan& memory = costs.memory;
  for (int64_t* const bytes :
       {&memory.values, &memory.gradients, &memory.optimizer, &memory.gathered, &memory.buckets,
        &memory.activations, &memory.sampling, &memory.inputs, &memory.panels, &memory.window,
        &memory.snapshot, &memory.staging, &memory.page_locked, &memory.saved})
    *bytes = world.max(*bytes);
  costs.elements_per_step = world.max(costs.elements_per_step);
  return costs;
}

std::string traffic_text(const Options& options, const RunCosts& costs) {
  return fmt::format("elements a rank sends in a full step at stage {}, at most: {}",
                     options.zero_stage, costs.elements_per_step);
}

int64_t micro_batches_of_step(const Options& options) {
  if (!options.by_tokens()) return options.gradient_accumulation_steps;
  const int64_t samples = samples_of_length(options, options.max_seq_len);
  return (options.samples_of_rank() + samples - 1) / samples;
}

StepOperations plan_operations(const Options& options, ModelSetup& setup) {
  VisionLanguageModel& model = *setup.model;
  const DType dtype = setup.table.dtype();
  StepOperations plan;
  if (options.average_text_tokens > 0) {
    const int64_t images = options.average_images;
    const int64_t length = options.average_text_tokens + images * model.config().image_tokens();
    plan.counted = {samples_of_length(options, length), length, images};
  } else {
    plan.counted = most_expensive_shape(model, train_limits(options), dtype);
  }
  const OpCounts counts = count_operations(model, plan.counted, dtype);
  for (const int64_t flops : {counts.matmul_flops, counts.attention_flops})
    if (options.by_tokens())
      add_saturated(plan.flops, {flops / plan.counted.samples, options.samples_of_rank()});
    else
      add_saturated(plan.flops, {flops, options.gradient_accumulation_steps});
  return plan;
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= int64_t{1} << 30) return fmt::format("{:.2f} GiB", value / (1 << 30));
  if (bytes >= int64_t{1} << 20) return fmt::format("{:.2f} MiB", value / (1 << 20));
  return fmt::format("{:.2f} KiB", value / (1 << 10));
}

}  // namespace facet
