#include "train/measured_pass.h"

#include <algorithm>

#include "ops/half_storage.h"
#include "ops/null_backend.h"

namespace facet {

namespace {

// What a made sample consists of: images first, then text.
struct MadeSample {
  int64_t length = 0;  // L
  int64_t images = 0;
};

void add_sample(const VlmConfig& config, const MadeSample& sample, MicroBatch& batch) {
  const int64_t tokens = sample.length - sample.images * (config.image_tokens() - 1);
  for (int64_t t = 0; t < tokens; ++t) {
    batch.token_ids.push_back(t < sample.images ? batch.image_token_id : 0);
    batch.labels.push_back(t < sample.images ? kIgnoredLabel : 0);
  }
  batch.sample_ids.push_back(batch.num_samples());
  batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
  batch.images_per_sample.push_back(static_cast<int32_t>(sample.images));
  batch.dataset_of_sample.push_back(0);
}

// A micro-batch of these samples with a label on every text token.
MicroBatch made_batch(const VlmConfig& config, const std::vector<MadeSample>& samples) {
  MicroBatch batch;
  batch.image_token_id = static_cast<int32_t>(config.lm.vocab_size) - 1;
  batch.image_size = static_cast<int32_t>(config.image_size);
  for (const MadeSample& sample : samples) add_sample(config, sample, batch);
  batch.pixels.resize(
      static_cast<size_t>(batch.num_images() * 3 * config.image_size * config.image_size));
  return batch;
}

// The features of the first images are given.
void give_images(const VlmConfig& config, DType dtype, int64_t count, MicroBatch& batch) {
  std::vector<uint8_t>& is_given = batch.features.is_given;
  is_given.assign(static_cast<size_t>(batch.num_images()), 0);
  std::fill_n(is_given.begin(), count, uint8_t{1});
  batch.features.values.resize(static_cast<size_t>(count * config.vision_tokens() *
                                                   config.vision.feature_width() * size_of(dtype)));
  batch.pixels.resize(static_cast<size_t>((batch.num_images() - count) * 3 * config.image_size *
                                          config.image_size));
}

// As many as leave room for one text token.
int64_t most_images(const VlmConfig& config, const BatchLimits& limits) {
  const int64_t fitting = std::max<int64_t>(0, (limits.max_seq_len - 1) / config.image_tokens());
  return std::min(limits.max_images, fitting);
}

// As many rows as fit, in samples of the full length without images.
std::vector<MadeSample> only_text(const BatchLimits& limits) {
  if (limits.rows == 0)
    return {static_cast<size_t>(limits.samples), MadeSample{limits.max_seq_len, 0}};
  std::vector<MadeSample> samples(static_cast<size_t>(limits.rows / limits.max_seq_len),
                                  MadeSample{limits.max_seq_len, 0});
  if (const int64_t rest = limits.rows % limits.max_seq_len; rest > 0) samples.push_back({rest, 0});
  return samples;
}

// As many images as fit: by tokens in samples with one text token each.
std::vector<MadeSample> most_images_of_all(const VlmConfig& config, const BatchLimits& limits) {
  const int64_t images = most_images(config, limits), image_tokens = config.image_tokens();
  if (limits.rows == 0)
    return {static_cast<size_t>(limits.samples), MadeSample{limits.max_seq_len, images}};
  if (images == 0) return only_text(limits);
  std::vector<MadeSample> samples;
  int64_t rest = limits.rows;
  for (; rest > image_tokens; rest -= samples.back().length) {
    const int64_t count = std::min(images, (rest - 1) / image_tokens);
    samples.push_back({count * image_tokens + 1, count});
  }
  if (rest > 0) samples.push_back({rest, 0});
  return samples;
}

// In as many rows one more image takes the place of S labelled text tokens, and memory is linear in
// both: one of the two ends is the largest.
PassMemory measure_ends(const VlmConfig& config, const BatchLimits& limits,
                        const MeasuredPass& pass,
                        const std::function<void(Context&, const MicroBatch&)>& work) {
  PassMemory largest;
  for (const auto& samples : {only_text(limits), most_images_of_all(config, limits)}) {
    MicroBatch batch = made_batch(config, samples);
    const auto look = [&] {
      largest = larger_of(largest, measure(pass, [&](Context& context) { work(context, batch); }));
    };
    using Given = BatchLimits::Given;
    if (limits.given == Given::kAll) give_images(config, pass.dtype, batch.num_images(), batch);
    look();
    if (limits.given != Given::kSome || batch.num_images() == 0) continue;
    give_images(config, pass.dtype, 1, batch);  // takes most: the others are computed and join it
    look();
  }
  return with_rounding(largest);
}

}  // namespace

int64_t samples_of_length(const Options& options, int64_t length) {
  if (!options.by_tokens()) return options.per_device_train_batch_size;
  return std::clamp<int64_t>(options.tokens_per_micro_batch / length, 1, options.samples_of_rank());
}

BatchLimits train_limits(const Options& options) {
  const int64_t rows =
      options.by_tokens() ? std::max(options.tokens_per_micro_batch, options.max_seq_len) : 0;
  return {samples_of_length(options, options.max_seq_len), options.max_seq_len,
          options.max_num_image_per_sample, rows};
}

BatchLimits eval_limits(const Options& options) {
  return {options.per_device_eval_batch_size, options.max_seq_len,
          options.max_num_image_per_sample};
}

int64_t most_images_together(const VlmConfig& config, const BatchLimits& limits) {
  int64_t images = 0;
  for (const MadeSample& sample : most_images_of_all(config, limits)) images += sample.images;
  return images;
}

PassMemory larger_of(const PassMemory& a, const PassMemory& b) {
  return {std::max(a.activations, b.activations), std::max(a.panels, b.panels),
          std::max(a.inputs, b.inputs)};
}

PassMemory with_rounding(PassMemory memory) {
  memory.activations += memory.activations / 64 + (1 << 20);
  if (memory.panels > 0) memory.panels += memory.panels / 64 + 4096;
  if (memory.inputs > 0) memory.inputs += memory.inputs / 64 + 4096;
  return memory;
}

PassMemory measure(const MeasuredPass& pass, const std::function<void(Context&)>& work) {
  NullBackend nothing;
  HalfStorage ops(nothing);
  Arena arena("measured activations");
  InputBuffers inputs(ops);
  Context context{ops, arena, pass.hooks, pass.dtype,
                  pass.inputs == InputsIn::kBuffers ? &inputs : nullptr};
  work(context);
  return {arena.peak(), ops.panel_bytes(), inputs.peak()};
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

OpCounts count_operations(VisionLanguageModel& model, const MicroBatch& batch, DType dtype) {
  NullBackend ops;
  Arena arena("measured activations");
  UnitHooks hooks;
  Context context{ops, arena, hooks, dtype};
  LossSums sums;
  model.forward_backward(context, batch, 1, sums);
  return ops.counts();
}

OpCounts count_operations(VisionLanguageModel& model, const BatchShape& shape, DType dtype) {
  const std::vector<MadeSample> samples(static_cast<size_t>(shape.samples),
                                        MadeSample{shape.length, shape.images});
  return count_operations(model, made_batch(model.config(), samples), dtype);
}

// What is counted is linear in a sample's shape, so a few made micro-batches give each coefficient.
// [rows, labels, pairs, labelled pairs] of those without images: a sample of 2, [2, 1, 3, 1]; of 3,
// [3, 2, 6, 3]; of 4, [4, 3, 10, 6]; two of 2, [4, 2, 6, 2]. A pair is as much work in each layer.
WorkModel work_model(VisionLanguageModel& model, DType dtype) {
  const VlmConfig& config = model.config();
  const auto operations = [&](const std::vector<MadeSample>& samples) {
    const OpCounts counts = count_operations(model, made_batch(config, samples), dtype);
    return counts.matmul_flops + counts.attention_flops;
  };
  const int64_t two = operations({{2, 0}}), three = operations({{3, 0}}),
                four = operations({{4, 0}}), two_twos = operations({{2, 0}, {2, 0}});
  WorkModel work;
  work.image_tokens = config.image_tokens();
  work.images_apart = config.mmca;
  const int64_t of_pair_in_all = four - 2 * three + two;
  work.of_labelled_pair = of_pair_in_all / config.lm.num_hidden_layers;
  work.of_pair = of_pair_in_all - work.of_labelled_pair;
  work.of_label = four - two_twos - 4 * of_pair_in_all;
  work.of_row = three - two - work.of_label - 3 * work.of_pair - 2 * work.of_labelled_pair;

  const auto with_images = [&](int64_t images) {
    return MadeSample{images * work.image_tokens + 1, images};
  };
  const auto known_part = [&](int64_t images) {
    const MicroBatch batch = made_batch(config, {with_images(images)});
    return work.operations(
        work.shape({batch.token_ids, batch.labels, {}, 0}, batch.image_token_id));
  };
  work.of_image =
      operations({with_images(2)}) - operations({with_images(1)}) - (known_part(2) - known_part(1));
  return work;
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
