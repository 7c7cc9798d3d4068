#include "data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "base/progress.h"
#include "data/prefetcher.h"

namespace facet {

namespace {

void clear(MicroBatch& batch) {
  batch.token_ids.clear();
  batch.labels.clear();
  batch.sample_begin.assign(1, 0);
  batch.images_per_sample.clear();
  batch.pixels.clear();
  batch.features.clear();
  batch.dataset_of_sample.clear();
  batch.sample_ids.clear();
}

void append(const PreparedSample& sample, int32_t dataset, int64_t id, MicroBatch& batch) {
  const auto add = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  add(batch.token_ids, sample.token_ids);
  add(batch.labels, sample.labels);
  add(batch.pixels, sample.pixels);
  add(batch.features.keys, sample.features.keys);
  add(batch.features.is_given, sample.features.is_given);
  add(batch.features.values, sample.features.values);
  batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
  batch.images_per_sample.push_back(sample.num_images);
  batch.dataset_of_sample.push_back(dataset);
  batch.sample_ids.push_back(id);
}

// The position of a pass over a split: the next micro-batch that the prefetcher will deliver.
struct Place {
  Split split;
  int64_t epoch, step, micro_batch;
  bool operator==(const Place&) const = default;
};

}  // namespace

class Loader::Impl {
 public:
  Impl(const SampleTable& table, const SampleBuilder& builder, const LoaderOptions& options);

  void agree_on(int64_t epoch, int64_t step) {
    if (dealer_) dealer_->agree_on(epoch, step);
  }
  std::span<const MicroBatch> fetch(Split split, int64_t epoch, int64_t step);
  const BatchPlan& plan(Split split) const {
    return split == Split::kTraining ? training_ : evaluation_;
  }
  std::span<const int64_t> bad_samples() const { return bad_; }

 private:
  BatchPlan plan_of(Split split, int64_t per_device, int64_t accumulation) const;
  std::optional<StepDealer> make_dealer() const;
  int64_t samples_ahead() const;
  void prepare(const SampleRequest& request, PreparedSample& out) const;
  bool is_dealt(Split split) const { return dealer_ && split == Split::kTraining; }
  int64_t micro_batches_of(const Place& place) const;
  std::span<const int64_t> samples_of(const Place& place) const;
  void start_pass(const Place& from);
  Prefetcher::Sequence all_from(const Place& from) const;
  void append_dealt(const Place& place);
  void fill(const Place& place, MicroBatch& batch);
  void report_bad(const SampleRequest& request, const Error& error);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  const LoaderOptions options_;
  const BatchPlan training_, evaluation_;
  BadSampleList bad_list_;
  std::vector<int64_t> bad_;               // of the last fetch, by data set
  std::vector<MicroBatch> batches_;        // of the last fetch
  std::optional<StepDealer> dealer_;       // of the training split
  int64_t dealt_steps_ = 0;                // of the epoch, that the prefetcher knows
  std::vector<int64_t> order_;             // of the training split in the current epoch
  std::vector<int64_t> evaluation_order_;  // 0, 1, 2 ..
  int64_t order_epoch_ = -1;
  std::optional<Place> next_;  // nothing: no pass is running
  Prefetcher prefetcher_;      // last member: its threads use the others
};

Loader::Impl::Impl(const SampleTable& table, const SampleBuilder& builder,
                   const LoaderOptions& options)
    : table_(table),
      builder_(builder),
      options_(options),
      training_(
          plan_of(Split::kTraining, options.per_device_train_batch_size, options.accumulation)),
      evaluation_(plan_of(Split::kEvaluation, options.per_device_eval_batch_size, 1)),
      bad_list_(options.bad_samples_path),
      bad_(static_cast<size_t>(table.num_datasets())),
      dealer_(make_dealer()),
      evaluation_order_(static_cast<size_t>(evaluation_.num_samples)),
      prefetcher_(
          [this](const SampleRequest& request, PreparedSample& out) { prepare(request, out); },
          options.num_workers, samples_ahead()) {
  std::iota(evaluation_order_.begin(), evaluation_order_.end(), 0);
}

BatchPlan Loader::Impl::plan_of(Split split, int64_t per_device, int64_t accumulation) const {
  CHECK(per_device >= 1 && accumulation >= 1, ExitCode::kUsage,
        "batch size {} with {} accumulation steps: both must be at least 1", per_device,
        accumulation);
  ASSERT(options_.rank >= 0 && options_.rank < options_.ranks, "rank {} of {}", options_.rank,
         options_.ranks);
  return {table_.num_samples(split), per_device, options_.ranks, accumulation};
}

std::optional<StepDealer> Loader::Impl::make_dealer() const {
  if (options_.tokens_per_micro_batch == 0) return std::nullopt;
  return std::optional<StepDealer>(
      std::in_place, table_, builder_,
      DealerOptions{.rank = options_.rank,
                    .ranks = options_.ranks,
                    .global_batch = training_.global_batch(),
                    .rows = options_.tokens_per_micro_batch,
                    .max_num_image_per_sample = options_.max_num_image_per_sample,
                    .num_workers = options_.num_workers,
                    .work = options_.work,
                    .exchange = options_.exchange});
}

// A step of this rank; by tokens it may have more samples than others, where theirs are long.
int64_t Loader::Impl::samples_ahead() const {
  const int64_t of_step = training_.per_device * training_.accumulation;
  return std::max(dealer_ ? std::min(2 * of_step, training_.global_batch()) : of_step,
                  evaluation_.per_device * 2);
}

void Loader::Impl::prepare(const SampleRequest& request, PreparedSample& out) const {
  build_checked(builder_, table_.read(request.split, request.sample, request.epoch),
                options_.max_num_image_per_sample, out);
}

int64_t Loader::Impl::micro_batches_of(const Place& place) const {
  if (is_dealt(place.split))
    return static_cast<int64_t>(dealer_->samples_of(place.epoch, place.step).size());
  return plan(place.split).micro_batches_of(place.step);
}

// The samples of a micro-batch of this rank.
std::span<const int64_t> Loader::Impl::samples_of(const Place& place) const {
  if (is_dealt(place.split))
    return dealer_->samples_of(place.epoch, place.step)[static_cast<size_t>(place.micro_batch)];
  const auto [begin, end] =
      plan(place.split).positions(place.step, place.micro_batch, options_.rank);
  const auto& order = place.split == Split::kTraining ? order_ : evaluation_order_;
  return std::span(order).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

void Loader::Impl::start_pass(const Place& from) {
  prefetcher_.restart(nullptr);  // no thread reads the order while it changes
  dealt_steps_ = from.step;
  if (is_dealt(from.split)) return;
  if (from.split == Split::kTraining && order_epoch_ != from.epoch) {
    order_ = table_.epoch_order(from.epoch);
    order_epoch_ = from.epoch;
  }
  prefetcher_.restart(all_from(from));
}

Prefetcher::Sequence Loader::Impl::all_from(const Place& from) const {
  return [this, &plan = plan(from.split), at = from,
          taken = size_t{0}]() mutable -> std::optional<SampleRequest> {
    while (at.step < plan.num_steps()) {
      const std::span<const int64_t> samples = samples_of(at);
      if (taken < samples.size()) return SampleRequest{at.split, at.epoch, samples[taken++]};
      taken = 0;
      if (++at.micro_batch == plan.micro_batches_of(at.step)) {
        at.micro_batch = 0;
        ++at.step;
      }
    }
    return std::nullopt;
  };
}

// The ranks have agreed on this step and the next: the threads read on into that one.
void Loader::Impl::append_dealt(const Place& place) {
  const int64_t end = std::min(place.step + 2, training_.num_steps());
  for (; dealt_steps_ < end; ++dealt_steps_) {
    std::vector<int64_t> samples;
    for (const auto& list : dealer_->samples_of(place.epoch, dealt_steps_))
      samples.insert(samples.end(), list.begin(), list.end());
    prefetcher_.append([epoch = place.epoch, samples = std::move(samples),
                        taken = size_t{0}]() mutable -> std::optional<SampleRequest> {
      if (taken == samples.size()) return std::nullopt;
      return SampleRequest{Split::kTraining, epoch, samples[taken++]};
    });
  }
}

std::span<const MicroBatch> Loader::Impl::fetch(Split split, int64_t epoch, int64_t step) {
  Place place{split, epoch, step, 0};
  const int64_t count = micro_batches_of(place);
  if (static_cast<int64_t>(batches_.size()) < count) batches_.resize(static_cast<size_t>(count));
  std::fill(bad_.begin(), bad_.end(), 0);
  if (next_ != place) start_pass(place);
  if (is_dealt(split)) append_dealt(place);
  next_.reset();  // remains so if a sample throws: the next fetch then starts over
  for (; place.micro_batch < count; ++place.micro_batch)
    fill(place, batches_[static_cast<size_t>(place.micro_batch)]);
  next_ = Place{split, epoch, step + 1, 0};
  return {batches_.data(), static_cast<size_t>(count)};
}

void Loader::Impl::fill(const Place& place, MicroBatch& batch) {
  clear(batch);
  batch.image_token_id = builder_.image_token_id();
  batch.image_size = builder_.image_size();
  for (const int64_t sample : samples_of(place)) {
    const SampleRequest expected{place.split, place.epoch, sample};
    note_samples({&expected.sample, 1});
    const Prefetcher::Slot& slot = prefetcher_.next();
    ASSERT(slot.request == expected, "sample {} came instead of {}", slot.request.sample,
           expected.sample);
    try {
      if (slot.failure) std::rethrow_exception(slot.failure);
      append(slot.sample, table_.dataset_of(expected.split, expected.sample), expected.sample,
             batch);
    } catch (const Error& error) {
      if (!means_bad_sample(error)) throw;
      report_bad(expected, error);
    }
  }
}

void Loader::Impl::report_bad(const SampleRequest& request, const Error& error) {
  const int32_t index = table_.dataset_of(request.split, request.sample);
  const auto records = table_.records_of(request.split, request.sample);
  const BadSample bad{request.split == Split::kTraining ? "training" : "evaluation",
                      request.epoch,
                      request.sample,
                      table_.dataset(index).name(),
                      {records.begin(), records.end()},
                      error.what()};
  bad_list_.append(bad);
  ++bad_[static_cast<size_t>(index)];
  CHECK(options_.bad_samples == BadSamplePolicy::kSkip, error.code(),
        "bad sample in data set {}, record {}: {}; repair it, or skip bad samples with "
        "--bad_samples skip",
        bad.dataset, fmt::join(records, ", "), bad.reason);
}

Loader::Loader(const SampleTable& table, const SampleBuilder& builder, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(table, builder, options)) {}

Loader::~Loader() = default;

int64_t Loader::steps_per_epoch() const { return impl_->plan(Split::kTraining).num_steps(); }

void Loader::agree_on_step(int64_t epoch, int64_t step) { impl_->agree_on(epoch, step); }

std::span<const MicroBatch> Loader::fetch_step(int64_t epoch, int64_t step) {
  return impl_->fetch(Split::kTraining, epoch, step);
}

int64_t Loader::num_evaluation_micro_batches() const {
  return impl_->plan(Split::kEvaluation).num_steps();
}

const MicroBatch& Loader::fetch_evaluation(int64_t micro_batch) {
  return impl_->fetch(Split::kEvaluation, 0, micro_batch)[0];
}

std::span<const int64_t> Loader::bad_samples_of_last_fetch() const { return impl_->bad_samples(); }

}  // namespace facet
