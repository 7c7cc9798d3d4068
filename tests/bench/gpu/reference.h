// The reference configuration: Llama-2-7b with LoRA, CLIP ViT-L/14, a perceiver, 2 samples of 4096
// tokens with 8 images each, ZeRO stage 2, bf16; and what takes steps of it. The weights are random
// numbers made on the device: no file is read.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "comm/communicator.h"
#include "tests/bench/gpu/sections.h"
#include "train/train_step.h"

namespace facet::bench {

VlmConfig reference_config(Scale scale, Mode mode, int64_t layers);
MicroBatch reference_batch(const VlmConfig& config, Scale scale);

// The same micro-batch in every step.
class OneBatch final : public BatchSource {
 public:
  explicit OneBatch(MicroBatch batch) : batch_(std::move(batch)) {}
  int64_t steps_per_epoch() const override { return 0; }
  std::span<const MicroBatch> fetch_step(int64_t, int64_t) override { return {&batch_, 1}; }
  int64_t num_evaluation_micro_batches() const override { return 0; }
  const MicroBatch& fetch_evaluation(int64_t) override { return batch_; }
  std::span<const int64_t> bad_samples_of_last_fetch() const override { return {}; }

 private:
  MicroBatch batch_;
};

class ReferenceRun {
 public:
  ReferenceRun(Communicator& world, Backend& ops, const VlmConfig& config, const MicroBatch& batch);

  // With `wait_for_device` each phase of a step ends when the device has done its work.
  TrainStep steps(const std::function<void()>& wait_for_device = {});

 private:
  void make_weights();

  Communicator& world_;
  Backend& ops_;
  ParamTable table_;
  VisionLanguageModel model_;
  EngineOptions options_;
  OneBatch source_;
  LrSchedule schedule_{ScheduleType::kConstant, 0, 1, 1e-4};
  FaultInjection no_faults_;
  std::optional<Engine> engine_;
  std::optional<Arena> arena_;
  std::optional<InputBuffers> inputs_;
};

}  // namespace facet::bench
