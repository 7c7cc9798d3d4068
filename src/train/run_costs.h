// What a run costs a rank, found out before any of it is spent: memory by kind, elements sent,
// operations.
#pragma once

#include <cstdint>
#include <string>

#include "comm/communicator.h"
#include "data/batch_source.h"
#include "options/options.h"
#include "train/data_setup.h"
#include "train/measured_pass.h"
#include "train/model_setup.h"
#include "train/questions.h"

namespace facet {

struct MemoryPlan {
  int64_t values = 0;          // parameters, trained and frozen: what this rank keeps of them
  int64_t gradients = 0;       // of the trained ones
  int64_t optimizer = 0;       // moments; with 16 bits, or offloaded, the fp32 masters too
  int64_t gathered = 0;        // parameters of units that are whole only for a while
  int64_t buckets = 0;         // gradients on their way to the other ranks
  int64_t activations = 0;     // the arena of the largest micro-batch
  int64_t sampling = 0;        // what answering --sample_prompts takes in that arena beyond a step
  int64_t inputs = 0;          // of one micro-batch and of the next, which is on its way to a GPU
  int64_t panels = 0;          // fp32 scratch of operators whose operands have 16 bits
  int64_t window = 0;          // one unit in fp32, while 16-bit or partitioned values are filled
  int64_t snapshot = 0;        // the copy of the state that is written
  int64_t staging = 0;         // chunks of offloaded state on their way
  int64_t page_locked = 0;     // of all these: what is offloaded, in page-locked host memory
  int64_t saved = 0;           // what the GPU would hold more without
  Space space = Space::kHost;  // of all but these four, which are on the host
  int64_t runtime = 0;         // what others than the arenas take on the GPU (gpu_runtime_bytes,
                               // joint_attention_bytes, lora_sums_bytes)
  int64_t decoding = 0;        // host memory of the workers with the largest images, beside total()

  int64_t total() const {
    return values + gradients + optimizer + gathered + buckets + activations + sampling + inputs +
           panels + window + snapshot + staging;
  }
  int64_t on_device() const {
    return space == Space::kDevice ? total() - window - snapshot - page_locked + runtime : 0;
  }
  std::string text() const;  // a table
};

// What a rank takes on a GPU besides its arenas, as is usual and not as measured here: CUDA's
// context with the kernels (550 MiB), cuBLASLt's workspace (32 MiB), work lists and scratch of
// attention and of sums (64 MiB), and with more than one rank NCCL (400 MiB).
int64_t gpu_runtime_bytes(int ranks);
// The fp32 sums of --attention_backward joint, of the largest micro-batch: where attention's heads
// have the width that it takes.
int64_t joint_attention_bytes(const Options& options, const LlamaConfig& lm);
// The fp32 sums of LoRA's backward, of the largest micro-batch: 30 MiB at rank 16 and 8192 tokens
// of Llama-2-7b, in proportion to both; the language model and the vision encoder use the same
// memory.
int64_t lora_sums_bytes(const Options& options, const ModelSetup& model);

struct RunCosts {
  MemoryPlan memory;              // training and the evaluations in between
  int64_t elements_per_step = 0;  // that a rank sends in a full step, at most
};

// From a table that Engine::lay_out made. Micro-batches are those of the recording, or with nullptr
// all that the options allow. `questions` are answered in between, unless nullptr.
RunCosts plan_costs(const Options& options, ModelSetup& model, BatchSource* replay, int ranks,
                    const Questions* questions = nullptr);
// Of the rank that needs most of each: recorded micro-batches differ between ranks. Collective.
RunCosts largest_of_all_ranks(RunCosts costs, Communicator& world);
// What plan_costs takes as the recording: --replay, or nullptr.
BatchSource* replay_of(const Options& options, const DataSetup& data);
// One line about the elements sent.
std::string traffic_text(const Options& options, const RunCosts& costs);

// Of one rank in a full step.
struct StepOperations {
  BatchShape counted;  // every micro-batch is taken to be like this
  int64_t flops = 0;
};
// Micro-batches of a rank in a full step; by tokens: if all samples are as long as they may be.
int64_t micro_batches_of_step(const Options& options);
// Counted on the average samples that the options name, else on the most expensive they allow.
StepOperations plan_operations(const Options& options, ModelSetup& setup);

// "1.50 GiB"
std::string bytes_text(int64_t bytes);

}  // namespace facet
