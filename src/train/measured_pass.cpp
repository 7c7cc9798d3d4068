#include "train/measured_pass.h"

#include <algorithm>

#include "ops/half_storage.h"
#include "ops/null_backend.h"

namespace facet {

namespace {

// `samples` samples of the full length with this many images each, and a label on every text token.
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

// As many as leave room for one text token.
int64_t most_images(const VlmConfig& config, const BatchLimits& limits) {
  const int64_t fitting = std::max<int64_t>(0, (limits.max_seq_len - 1) / config.image_tokens());
  return std::min(limits.max_images, fitting);
}

// At the full length one more image takes the place of S labelled text tokens, and memory is linear
// in both: one of the two ends is the largest.
PassMemory measure_ends(const VlmConfig& config, const BatchLimits& limits,
                        const MeasuredPass& pass,
                        const std::function<void(Context&, const MicroBatch&)>& work) {
  PassMemory largest;
  for (const int64_t images : {int64_t{0}, most_images(config, limits)}) {
    const MicroBatch batch = full_batch(config, limits, images);
    largest = larger_of(largest, measure(pass, [&](Context& context) { work(context, batch); }));
  }
  // Every piece of an arena is rounded up to 64 bytes, by different amounts in other micro-batches.
  largest.activations += largest.activations / 64 + (1 << 20);
  if (largest.panels > 0) largest.panels += largest.panels / 64 + 4096;
  return largest;
}

}  // namespace

BatchLimits train_limits(const Options& options) {
  return {options.per_device_train_batch_size, options.max_seq_len,
          options.max_num_image_per_sample};
}

BatchLimits eval_limits(const Options& options) {
  return {options.per_device_eval_batch_size, options.max_seq_len,
          options.max_num_image_per_sample};
}

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

BatchShape most_expensive_shape(VisionLanguageModel& model, const BatchLimits& limits,
                                DType dtype) {
  const auto operations = [&](const BatchShape& shape) {
    const OpCounts counts = count_operations(model, shape, dtype);
    return counts.matmul_flops + counts.attention_flops;
  };
  const BatchShape text{limits.samples, limits.max_seq_len, 0};
  const BatchShape full{limits.samples, limits.max_seq_len, most_images(model.config(), limits)};
  return operations(text) > operations(full) ? text : full;
}

}  // namespace facet
