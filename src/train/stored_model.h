// The model that a checkpoint holds, for commands that are no run: what was trained from its file,
// what was not from the files with which the run began.
#pragma once

#include <memory>
#include <string>

#include "checkpoint/weight_origins.h"
#include "comm/communicator.h"
#include "io/input_file.h"
#include "train/model_setup.h"
#include "train/stored_checkpoint.h"

namespace facet {

// Declares the model of a run, whose trained parameters are marked. kMissingInput if the
// directories of its models are not there, kConfig.
std::unique_ptr<ModelSetup> declare_as_trained(const Options& options);

struct StoredRun {
  std::string checkpoint;  // its directory
  Options options;         // of the run
};

// The path is a checkpoint, or the directory of a run: then its newest one. The two models lie
// where `given` says, or else where they lay. Its manifest alone is read. kMissingInput, kBadData,
// kConfig.
StoredRun stored_run(const std::string& path, const Options& given);

class StoredModel {
 public:
  // Of `parts` processes that verify the checkpoint together, the part of one. kMissingInput,
  // kBadData, kConfig.
  explicit StoredModel(StoredRun run, int64_t part = 0, int64_t parts = 1);

  // Of the frozen values as a run begins with them, its part of them: the parts' sum is the hash.
  uint64_t frozen_hash() const;
  // kConfig unless the run's was the same.
  void check_frozen(uint64_t hash) const;

  const Options& options() const { return run_.options; }
  const ModelSetup& setup() const { return *setup_; }
  // Trained parameters, in fp32.
  void read_trained(const Param& param, int64_t begin, int64_t count, float* out) const;
  // As a full export has them (checkpoint/hugging_face.h), while this lives.
  ReadParam read_as_exported() const;
  // "OUT/checkpoints/step_00000012: step 12, epoch 3"
  std::string text() const;

 private:
  StoredRun run_;
  int64_t part_, parts_;
  Manifest manifest_;
  std::unique_ptr<ModelSetup> setup_;
  WeightOrigins origins_;
  InputFile file_;
};

// Collective: verified by all ranks together, each byte by one of them.
std::unique_ptr<StoredModel> open_stored_model(const StoredRun& run, Communicator& world);

}  // namespace facet
