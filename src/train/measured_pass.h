// Passes over the model that compute nothing: how much memory one works in, and how many operations
// it asks for, known before any memory is taken.
#pragma once

#include <cstdint>
#include <functional>

#include "base/micro_batch.h"
#include "data/batch_source.h"
#include "data/sample_work.h"
#include "model/vlm.h"
#include "nn/context.h"
#include "ops/ops.h"
#include "options/options.h"

namespace facet {

// What limits a micro-batch.
struct BatchLimits {
  int64_t samples = 0;      // B
  int64_t max_seq_len = 0;  // L of each, image tokens included
  int64_t max_images = 0;   // of each
  // By tokens: any number of samples, up to so many rows together; 0: it is their number that is
  // limited.
  int64_t rows = 0;
  // Whether a cache may give the features of images; kAll: the vision encoder is at rest.
  enum class Given : uint8_t { kNone, kSome, kAll } given = Given::kNone;
};
// How many samples of that length a micro-batch of training has.
int64_t samples_of_length(const Options& options, int64_t length);
BatchLimits train_limits(const Options& options);
BatchLimits eval_limits(const Options& options);
// How many images a micro-batch has at most.
int64_t most_images_together(const VlmConfig& config, const BatchLimits& limits);

// What a pass over the model works in.
struct PassMemory {
  int64_t activations = 0;  // of the arena
  int64_t panels = 0;       // of HalfStorage
  int64_t inputs = 0;       // of one input buffer, where there are any
};
// The larger of each.
PassMemory larger_of(const PassMemory& a, const PassMemory& b);

// Every piece of an arena is rounded up to 64 bytes, by other amounts in passes other than those
// measured: what no such pass exceeds.
PassMemory with_rounding(PassMemory memory);

// Where a micro-batch's inputs are: in the arena or in buffers of their own (nn/input_buffers.h).
enum class InputsIn : uint8_t { kArena, kBuffers };

// How the layers run while they are measured: in which type, and with whose hooks.
struct MeasuredPass {
  UnitHooks& hooks;
  DType dtype = DType::kF32;
  InputsIn inputs = InputsIn::kArena;
};
// What no micro-batch within the limits exceeds.
PassMemory measure_training(VisionLanguageModel& model, const BatchLimits& limits,
                            const MeasuredPass& pass);
PassMemory measure_evaluation(VisionLanguageModel& model, const BatchLimits& limits,
                              const MeasuredPass& pass);
// The same for every micro-batch of a recorded file.
PassMemory measure_replay(VisionLanguageModel& model, BatchSource& replay,
                          const MeasuredPass& pass);
// The same for anything that runs layers.
PassMemory measure(const MeasuredPass& pass, const std::function<void(Context&)>& work);

// Samples of one shape: images first, then text whose tokens are all labelled.
struct BatchShape {
  int64_t samples = 0;  // B
  int64_t length = 0;   // L of each, image tokens included
  int64_t images = 0;   // of each
};
// The operations of one forward and backward pass, in the type that the parameters have.
OpCounts count_operations(VisionLanguageModel& model, const MicroBatch& batch, DType dtype);
OpCounts count_operations(VisionLanguageModel& model, const BatchShape& shape, DType dtype);
// The operations of a sample by its shape. Constant parts of a pass are left out.
WorkModel work_model(VisionLanguageModel& model, DType dtype);
// The shape within the limits that takes the most operations.
BatchShape most_expensive_shape(VisionLanguageModel& model, const BatchLimits& limits, DType dtype);

}  // namespace facet
