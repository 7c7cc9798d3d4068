// Micro-batches from data sets. Samples are read, decoded and tokenised ahead of time on host
// threads; the result depends only on (seed, epoch, step, rank), never on the threads' timing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/bad_samples.h"
#include "data/batch_source.h"
#include "data/order.h"
#include "data/sample_builder.h"
#include "data/step_dealer.h"

namespace facet {

struct LoaderOptions {
  int64_t rank = 0;
  int64_t ranks = 1;
  int64_t per_device_train_batch_size = 1;
  int64_t per_device_eval_batch_size = 1;
  int64_t accumulation = 1;
  // Micro-batches of so many rows instead of per_device_train_batch_size samples; 0: not so. Then
  // the two members after it are needed, as in DealerOptions.
  int64_t tokens_per_micro_batch = 0;
  const WorkModel* work = nullptr;
  ExchangeOfRanks exchange = {};
  int64_t num_workers = 1;  // 0: samples are prepared inside the fetch
  int64_t max_num_image_per_sample = 8;
  BadSamplePolicy bad_samples = BadSamplePolicy::kError;
  std::string bad_samples_path;  // see BadSampleList
};

class Loader : public BatchSource {
 public:
  // The table and the builder must outlive the loader.
  Loader(const SampleTable& table, const SampleBuilder& builder, const LoaderOptions& options);
  ~Loader() override;

  int64_t steps_per_epoch() const override;
  void agree_on_step(int64_t epoch, int64_t step) override;
  std::span<const MicroBatch> fetch_step(int64_t epoch, int64_t step) override;
  int64_t num_evaluation_micro_batches() const override;
  const MicroBatch& fetch_evaluation(int64_t micro_batch) override;
  std::span<const int64_t> bad_samples_of_last_fetch() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet
