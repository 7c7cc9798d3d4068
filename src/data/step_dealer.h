// Deals the samples of each step to the ranks by their length (--tokens_per_micro_batch). A rank
// measures every N-th sample of a step by tokenizing its text, a step ahead and on a host thread;
// the ranks exchange the lengths, and each works out the same dealing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "data/order.h"
#include "data/prefetcher.h"
#include "data/sample_builder.h"
#include "data/sample_work.h"
#include "data/token_batches.h"

namespace facet {

// Calls `measure` on every rank and returns what it gave on all of them, in rank order: `count`
// numbers on each, none of them NaN. Collective; if it throws on one rank, it throws on all.
using ExchangeOfRanks = std::function<std::vector<double>(
    size_t count, const std::function<std::vector<double>()>& measure)>;

struct DealerOptions {
  int64_t rank = 0;
  int64_t ranks = 1;
  int64_t global_batch = 1;  // samples of a step
  int64_t rows = 1;          // of a micro-batch: --tokens_per_micro_batch
  int64_t max_num_image_per_sample = 8;
  int64_t num_workers = 1;          // 0: measured inside agree_on; else on one thread
  const WorkModel* work = nullptr;  // filled before the first step; outlives the dealer
  ExchangeOfRanks exchange;
};

class StepDealer {
 public:
  // The table and the builder must outlive the dealer.
  StepDealer(const SampleTable& table, const SampleBuilder& builder, DealerOptions options);

  // Collective: deals this step and the one after it in the epoch, unless they are known.
  void agree_on(int64_t epoch, int64_t step);
  // This rank's micro-batches of a dealt step, as indices in the training split.
  const SampleLists& samples_of(int64_t epoch, int64_t step) const;

 private:
  using Place = std::pair<int64_t, int64_t>;  // epoch, step

  int64_t num_steps() const;
  int64_t samples_in(int64_t step) const;
  size_t numbers_of(const Place& place) const;
  void prepare(const SampleRequest& request, PreparedSample& out) const;
  void start_pass(const Place& from);
  std::vector<double> measure(const Place& place);
  SampleCost cost_of(const Prefetcher::Slot& slot) const;
  SampleLists deal(const Place& place);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  const DealerOptions options_;
  std::map<Place, SampleLists> dealt_;
  std::vector<int64_t> order_;  // of the training split in the epoch that is measured
  int64_t order_epoch_ = -1;
  std::optional<Place> next_;  // that the prefetcher measures; nothing: no pass is running
  Prefetcher measured_;        // last member: its threads use the others
};

}  // namespace facet
