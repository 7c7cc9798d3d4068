#include "data/step_dealer.h"

#include <algorithm>

#include "base/check.h"
#include "data/bad_samples.h"

namespace facet {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

StepDealer::StepDealer(const SampleTable& table, const SampleBuilder& builder,
                       DealerOptions options)
    : table_(table),
      builder_(builder),
      options_(std::move(options)),
      measured_(
          [this](const SampleRequest& request, PreparedSample& out) { prepare(request, out); },
          std::min<int64_t>(options_.num_workers, 1),
          ceil_div(options_.global_batch, options_.ranks)) {}

void StepDealer::agree_on(int64_t epoch, int64_t step) {
  std::erase_if(dealt_, [&](const auto& entry) {
    return entry.first < Place{epoch, step} || Place{epoch, step + 1} < entry.first;
  });
  for (const Place& place : {Place{epoch, step}, Place{epoch, step + 1}})
    if (place.second < num_steps() && !dealt_.contains(place)) dealt_[place] = deal(place);
}

const SampleLists& StepDealer::samples_of(int64_t epoch, int64_t step) const {
  const auto found = dealt_.find({epoch, step});
  ASSERT(found != dealt_.end(), "step {} of epoch {} is fetched before the ranks agreed on it",
         step, epoch);
  return found->second;
}

int64_t StepDealer::num_steps() const {
  return ceil_div(table_.num_samples(Split::kTraining), options_.global_batch);
}

int64_t StepDealer::samples_in(int64_t step) const {
  return std::min(options_.global_batch,
                  table_.num_samples(Split::kTraining) - step * options_.global_batch);
}

// That each rank exchanges.
size_t StepDealer::numbers_of(const Place& place) const {
  return static_cast<size_t>(2 * ceil_div(samples_in(place.second), options_.ranks));
}

void StepDealer::prepare(const SampleRequest& request, PreparedSample& out) const {
  build_text_checked(builder_, table_.read(request.split, request.sample, request.epoch),
                     options_.max_num_image_per_sample, out);
}

// This rank's part of a step are its samples rank, rank + ranks, rank + 2 ranks ...
void StepDealer::start_pass(const Place& from) {
  measured_.restart(nullptr);  // no thread reads the order while it changes
  const int64_t epoch = from.first;
  if (order_epoch_ != epoch) order_ = table_.epoch_order(epoch);
  order_epoch_ = epoch;
  measured_.restart([this, epoch, step = from.second,
                     at = options_.rank]() mutable -> std::optional<SampleRequest> {
    for (; step < num_steps(); ++step, at = options_.rank) {
      if (at >= samples_in(step)) continue;
      const int64_t position =
          step * options_.global_batch + std::exchange(at, at + options_.ranks);
      return SampleRequest{Split::kTraining, epoch, order_[static_cast<size_t>(position)]};
    }
    return std::nullopt;
  });
}

// [rows, work] of each sample of this rank's part, then zeros if other ranks have one more.
std::vector<double> StepDealer::measure(const Place& place) {
  if (next_ != place) start_pass(place);
  next_.reset();  // remains so if a sample throws
  const int64_t samples = samples_in(place.second);
  std::vector<double> costs;
  for (int64_t i = options_.rank; i < samples; i += options_.ranks) {
    const SampleCost cost = cost_of(measured_.next());
    costs.push_back(static_cast<double>(cost.rows));
    costs.push_back(static_cast<double>(cost.work));
  }
  costs.resize(numbers_of(place));
  next_ = Place{place.first, place.second + 1};
  return costs;
}

// Whoever gets a bad sample finds it bad again and reports it; here it weighs nothing.
SampleCost StepDealer::cost_of(const Prefetcher::Slot& slot) const {
  try {
    if (slot.failure) std::rethrow_exception(slot.failure);
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    return {};
  }
  const SampleShape shape = options_.work->shape(slot.sample, builder_.image_token_id());
  return {shape.rows, options_.work->operations(shape)};
}

SampleLists StepDealer::deal(const Place& place) {
  const std::vector<double> gathered =
      options_.exchange(numbers_of(place), [&] { return measure(place); });
  const int64_t samples = samples_in(place.second), ranks = options_.ranks;
  ASSERT(gathered.size() == numbers_of(place) * static_cast<size_t>(ranks),
         "{} lengths for {} samples", gathered.size(), samples);
  std::vector<SampleCost> costs;
  for (int64_t i = 0; i < samples; ++i) {
    const auto at = static_cast<size_t>(2 * (i % ranks * ceil_div(samples, ranks) + i / ranks));
    costs.push_back({static_cast<int64_t>(gathered[at]), static_cast<int64_t>(gathered[at + 1])});
  }
  SampleLists mine =
      std::move(deal_samples(costs, ranks, options_.rows)[static_cast<size_t>(options_.rank)]);
  const int64_t begin = place.second * options_.global_batch;
  for (std::vector<int64_t>& list : mine)
    for (int64_t& sample : list) sample = order_[static_cast<size_t>(begin + sample)];
  return mine;
}

}  // namespace facet
