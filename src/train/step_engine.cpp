#include "train/step_engine.h"

#include "base/log.h"
#include "train/feature_cache_setup.h"

namespace facet {

namespace {

LoadReport load_and_log(const Options& options, RunInputs& inputs, Engine& engine) {
  LoadReport loaded = load_weights(options, *inputs.model, engine.filler());
  const std::string source =
      loaded.projection_file.empty()
          ? "projection and lang_embed start fresh"
          : fmt::format("projection and lang_embed from {}", loaded.projection_file);
  const std::string recorded = recorded_chat_template(sources_of(options));
  if (!recorded.empty() && recorded != options.chat_template)
    loaded.differing_choices.push_back(
        fmt::format("--chat_template: the export was trained with {}, this run says {}", recorded,
                    options.chat_template));
  log_line(loaded.read_from);
  log_line(fmt::format("{}; {} rows of added tokens, {} parameters drawn", source,
                       loaded.added_token_rows, loaded.drawn.size()));
  for (const auto& lines : {loaded.differing_choices, loaded.unused})
    for (const std::string& line : lines) warn_line(line);
  return loaded;
}

std::optional<PoisoningHooks> poison_of(const FaultInjection& faults, Engine& engine,
                                        Backend& layers, int rank) {
  if (!faults.poisons_gradients()) return std::nullopt;
  return PoisoningHooks(engine.table(), engine, layers, faults, rank);
}

std::optional<LossScaler> scaler_of(const Options& options) {
  if (compute_dtype(options) != DType::kF16) return std::nullopt;
  return LossScaler(scaler_options(options));
}

// Of the arena: what answers take beyond a step may be taken for them alone.
int64_t kept_for_passes(const Options& options, const MemoryPlan& memory) {
  return memory.activations + (options.release_inference_cache ? 0 : memory.sampling);
}

// Operators that work in fp32 on 16-bit operands need their panels before the first pass.
Backend& layers_with_panels(ComputeDevice& device, int64_t bytes) {
  device.allocate_panels(bytes);
  return device.layers();
}

std::optional<InputBuffers> inputs_of(const MemoryPlan& memory, Backend& layers) {
  if (memory.inputs == 0) return std::nullopt;
  return std::optional<InputBuffers>(std::in_place, layers, memory.inputs / Backend::kInputBuffers);
}

LossAverage loss_average(const Options& options) {
  const bool micro_batch = options.loss_average == "micro_batch" || options.visualchat();
  return micro_batch ? LossAverage::kMicroBatch : LossAverage::kGlobal;
}

}  // namespace

RunCosts lay_out_and_plan(const Options& options, RunInputs& inputs, MemoryResource& memory,
                          int ranks, const Questions* questions) {
  ParamTable& table = inputs.model->table;
  table.place_in(memory);
  Engine::lay_out(table, ranks, engine_options(options));
  if (options.by_tokens())
    inputs.data->work = work_model(*inputs.model->model, compute_dtype(options));
  return plan_costs(options, *inputs.model, replay_of(options, *inputs.data), ranks, questions);
}

StepEngine::StepEngine(const Options& options, Communicator& world, ComputeDevice& device,
                       const FaultInjection& faults, RunInputs& inputs, const MemoryPlan& memory)
    : engine(inputs.model->table, make_groups(options, inputs.model->table), world, device.plain(),
             engine_options(options), device.host_side()),
      loaded(load_and_log(options, inputs, engine)),
      arena("activations", kept_for_passes(options, memory), device.memory()),
      layers(layers_with_panels(device, memory.panels)),
      input_buffers(inputs_of(memory, layers)),
      poison(poison_of(faults, engine, layers, world.rank())),
      context{layers, arena, poison ? static_cast<UnitHooks&>(*poison) : engine,
              compute_dtype(options), input_buffers ? &*input_buffers : nullptr},
      scaler(scaler_of(options)),
      step({.world = world,
            .source = inputs.source(),
            .num_datasets = inputs.num_datasets(),
            .bad_samples = inputs.bad_samples.get(),
            .model = *inputs.model->model,
            .context = context,
            .loss_average = loss_average(options),
            .scaler = scaler ? &*scaler : nullptr,
            .engine = engine,
            .schedule = inputs.schedule,
            .faults = faults,
            .wait_for_device = options.wall_clock_breakdown ? device.facts().wait : nullptr}) {}

void begin_feature_cache(const Options& options, MpiSession& session, const ComputeDevice& device,
                         const RunInputs& inputs, Engine& engine) {
  FeatureCache* const cache = inputs.data->features.get();
  if (cache == nullptr) return;
  open_feature_cache(options, session, {*inputs.model, device, engine.frozen_hash(kVisionUnits)},
                     *cache);
  inputs.model->model->tell_features_to(cache);
}

}  // namespace facet
