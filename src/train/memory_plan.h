// How much memory a rank needs, found out before any is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/micro_batch.h"
#include "data/batch_source.h"
#include "model/vlm.h"
#include "nn/context.h"
#include "ops/ops.h"

namespace facet {

struct MemoryPlan {
  int64_t values = 0;          // parameters, trained and frozen: what this rank keeps of them
  int64_t gradients = 0;       // of the trained ones
  int64_t optimizer = 0;       // moments; with 16 bits the fp32 masters too
  int64_t gathered = 0;        // parameters of units that are whole for a while only
  int64_t buckets = 0;         // the same of gradients
  int64_t activations = 0;     // the arena of the largest micro-batch
  int64_t panels = 0;          // fp32 scratch of operators whose operands have 16 bits
  int64_t window = 0;          // a unit in fp32, while values are filled or read that are not so
  int64_t snapshot = 0;        // the copy of the state that is written
  Space space = Space::kHost;  // of all but the last two, which are on the host

  int64_t total() const {
    return values + gradients + optimizer + gathered + buckets + activations + panels + window +
           snapshot;
  }
  int64_t on_device() const { return space == Space::kDevice ? total() - window - snapshot : 0; }
  std::string text() const;  // a table
};

// What limits a micro-batch.
struct BatchLimits {
  int64_t samples = 0;      // B
  int64_t max_seq_len = 0;  // L of each, image tokens included
  int64_t max_images = 0;   // of each
};

// What a pass over the model works in.
struct PassMemory {
  int64_t activations = 0;  // of the arena
  int64_t panels = 0;       // of HalfStorage
};
// At least as much of either.
PassMemory larger_of(const PassMemory& a, const PassMemory& b);

// How the layers run while they are measured: in which type, and whose hooks are called as in a
// real pass.
struct MeasuredPass {
  UnitHooks& hooks;
  DType dtype = DType::kF32;
};
// What no micro-batch within the limits exceeds.
PassMemory measure_training(VisionLanguageModel& model, const BatchLimits& limits,
                            const MeasuredPass& pass);
PassMemory measure_evaluation(VisionLanguageModel& model, const BatchLimits& limits,
                              const MeasuredPass& pass);
// The same for every micro-batch of a recorded file.
PassMemory measure_replay(VisionLanguageModel& model, BatchSource& replay,
                          const MeasuredPass& pass);
// The same of anything that runs layers.
PassMemory measure(const MeasuredPass& pass, const std::function<void(Context&)>& work);

// Samples of one shape, every text token behind the images labelled.
struct BatchShape {
  int64_t samples = 0;  // B
  int64_t length = 0;   // L of each, image tokens included
  int64_t images = 0;   // of each
};
// What one forward and backward pass asks of a backend, in the type that the parameters have.
OpCounts count_operations(VisionLanguageModel& model, const BatchShape& shape, DType dtype);
// The shape within the limits that asks for most.
BatchShape dearest_shape(VisionLanguageModel& model, const BatchLimits& limits, DType dtype);

// "1.50 GiB"
std::string bytes_text(int64_t bytes);

}  // namespace facet
