#include "train/memory_plan.h"

#include <algorithm>

#include "ops/half_storage.h"
#include "ops/null_backend.h"

namespace facet {

namespace {

// `samples` samples of the full length with so many images each, and a label on every token.
MicroBatch full_batch(const VlmConfig& config, const BatchLimits& limits, int64_t images) {
  MicroBatch batch;
  batch.image_token_id = static_cast<int32_t>(config.lm.vocab_size) - 1;
  batch.image_size = static_cast<int32_t>(config.image_size);
  const int64_t tokens = limits.max_seq_len - images * (config.image_tokens() - 1);
  for (int64_t b = 0; b < limits.samples; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      batch.token_ids.push_back(t < images ? batch.image_token_id : 0);
      batch.labels.push_back(t < images ? kIgnoredLabel : 0);
    }
    batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
    batch.images_per_sample.push_back(static_cast<int32_t>(images));
    batch.dataset_of_sample.push_back(0);
    batch.sample_ids.push_back(b);
  }
  batch.pixels.resize(
      static_cast<size_t>(batch.num_images() * 3 * config.image_size * config.image_size));
  return batch;
}

// That leave room for one text token.
int64_t most_images(const VlmConfig& config, const BatchLimits& limits) {
  const int64_t fitting = std::max<int64_t>(0, (limits.max_seq_len - 1) / config.image_tokens());
  return std::min(limits.max_images, fitting);
}

// At the full length an image more is S labelled text tokens less, and memory is linear in both:
// one of the two ends is the largest.
PassMemory measure_ends(const VlmConfig& config, const BatchLimits& limits,
                        const MeasuredPass& pass,
                        const std::function<void(Context&, const MicroBatch&)>& work) {
  PassMemory largest;
  for (const int64_t images : {int64_t{0}, most_images(config, limits)}) {
    const MicroBatch batch = full_batch(config, limits, images);
    largest = larger_of(largest, measure(pass, [&](Context& context) { work(context, batch); }));
  }
  // Every piece of an arena is rounded up to 64 bytes, in other micro-batches by other amounts.
  largest.activations += largest.activations / 64 + (1 << 20);
  if (largest.panels > 0) largest.panels += largest.panels / 64 + 4096;
  return largest;
}

}  // namespace

PassMemory larger_of(const PassMemory& a, const PassMemory& b) {
  return {std::max(a.activations, b.activations), std::max(a.panels, b.panels)};
}

PassMemory measure(const MeasuredPass& pass, const std::function<void(Context&)>& work) {
  NullBackend nothing;
  HalfStorage ops(nothing);
  Arena arena("measured activations");
  Context context{ops, arena, pass.hooks, pass.dtype};
  work(context);
  return {arena.peak(), ops.panel_bytes()};
}

PassMemory measure_training(VisionLanguageModel& model, const BatchLimits& limits,
                            const MeasuredPass& pass) {
  LossSums sums;
  return measure_ends(model.config(), limits, pass, [&](Context& context, const MicroBatch& batch) {
    model.forward_backward(context, batch, 1, sums);
  });
}

PassMemory measure_evaluation(VisionLanguageModel& model, const BatchLimits& limits,
                              const MeasuredPass& pass) {
  LossSums sums;
  return measure_ends(model.config(), limits, pass, [&](Context& context, const MicroBatch& batch) {
    model.evaluate(context, batch, sums);
  });
}

PassMemory measure_replay(VisionLanguageModel& model, BatchSource& replay,
                          const MeasuredPass& pass) {
  LossSums sums;
  return measure(pass, [&](Context& context) {
    for (int64_t step = 0; step < replay.steps_per_epoch(); ++step)
      for (const MicroBatch& batch : replay.fetch_step(0, step))
        model.forward_backward(context, batch, 1, sums);
  });
}

OpCounts count_operations(VisionLanguageModel& model, const BatchShape& shape, DType dtype) {
  NullBackend ops;
  Arena arena("measured activations");
  UnitHooks hooks;
  Context context{ops, arena, hooks, dtype};
  LossSums sums;
  const BatchLimits limits{shape.samples, shape.length, shape.images};
  model.forward_backward(context, full_batch(model.config(), limits, shape.images), 1, sums);
  return ops.counts();
}

BatchShape dearest_shape(VisionLanguageModel& model, const BatchLimits& limits, DType dtype) {
  const auto operations = [&](const BatchShape& shape) {
    const OpCounts counts = count_operations(model, shape, dtype);
    return counts.matmul_flops + counts.attention_flops;
  };
  const BatchShape text{limits.samples, limits.max_seq_len, 0};
  const BatchShape full{limits.samples, limits.max_seq_len, most_images(model.config(), limits)};
  return operations(text) > operations(full) ? text : full;
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= int64_t{1} << 30) return fmt::format("{:.2f} GiB", value / (1 << 30));
  if (bytes >= int64_t{1} << 20) return fmt::format("{:.2f} MiB", value / (1 << 20));
  return fmt::format("{:.2f} KiB", value / (1 << 10));
}

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
  if (panels > 0) line("panels", panels);
  if (window > 0) line("fp32 window", window);
  if (snapshot > 0) line("snapshot", snapshot);
  line("together", total());
  if (space == Space::kDevice) line("on the GPU", on_device());
  return lines;
}

}  // namespace facet
