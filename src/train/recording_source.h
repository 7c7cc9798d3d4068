// --dump_batches: a source that passes on another's micro-batches and records those of the first
// steps.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "data/batch_source.h"
#include "data/replay.h"

namespace facet {

class RecordingSource : public BatchSource {
 public:
  RecordingSource(BatchSource& source, int64_t steps, std::string path, Communicator& world);

  int64_t steps_per_epoch() const override { return source_.steps_per_epoch(); }
  void agree_on_step(int64_t epoch, int64_t step) override { source_.agree_on_step(epoch, step); }
  std::span<const MicroBatch> fetch_step(int64_t epoch, int64_t step) override;
  int64_t num_evaluation_micro_batches() const override {
    return source_.num_evaluation_micro_batches();
  }
  const MicroBatch& fetch_evaluation(int64_t micro_batch) override {
    return source_.fetch_evaluation(micro_batch);
  }
  std::span<const int64_t> bad_samples_of_last_fetch() const override {
    return source_.bad_samples_of_last_fetch();
  }

  bool complete() const { return recorder_.full(); }  // nothing more will be recorded
  void write();                                       // collective
  bool written() const { return written_; }

 private:
  BatchSource& source_;
  std::string path_;
  Communicator& world_;
  bool written_ = false;
  BatchRecorder recorder_;
};

}  // namespace facet
