#include "data/loader.h"

#include <fmt/format.h>

#include <algorithm>
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

  std::span<const MicroBatch> fetch(Split split, int64_t epoch, int64_t step);
  const BatchPlan& plan(Split split) const {
    return split == Split::kTraining ? training_ : evaluation_;
  }
  std::span<const int64_t> bad_samples() const { return bad_; }

 private:
  BatchPlan plan_of(Split split, int64_t per_device, int64_t accumulation) const;
  void prepare(const SampleRequest& request, PreparedSample& out) const;
  void start_pass(const Place& from);
  void fill(const Place& place, MicroBatch& batch);
  int64_t sample_at(Split split, int64_t position) const;
  void report_bad(const SampleRequest& request, const Error& error);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  const LoaderOptions options_;
  const BatchPlan training_, evaluation_;
  BadSampleList bad_list_;
  std::vector<int64_t> bad_;         // of the last fetch, by data set
  std::vector<MicroBatch> batches_;  // of the last fetch
  std::vector<int64_t> order_;       // of the training split in the current epoch
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
      prefetcher_(
          [this](const SampleRequest& request, PreparedSample& out) { prepare(request, out); },
          options.num_workers,
          std::max(training_.per_device * training_.accumulation, evaluation_.per_device * 2)) {}

BatchPlan Loader::Impl::plan_of(Split split, int64_t per_device, int64_t accumulation) const {
  CHECK(per_device >= 1 && accumulation >= 1, ExitCode::kUsage,
        "batch size {} with {} accumulation steps: both must be at least 1", per_device,
        accumulation);
  ASSERT(options_.rank >= 0 && options_.rank < options_.ranks, "rank {} of {}", options_.rank,
         options_.ranks);
  return {table_.num_samples(split), per_device, options_.ranks, accumulation};
}

void Loader::Impl::prepare(const SampleRequest& request, PreparedSample& out) const {
  build_checked(builder_, table_.read(request.split, request.sample, request.epoch),
                options_.max_num_image_per_sample, out);
}

int64_t Loader::Impl::sample_at(Split split, int64_t position) const {
  return split == Split::kTraining ? order_[static_cast<size_t>(position)] : position;
}

void Loader::Impl::start_pass(const Place& from) {
  prefetcher_.restart(nullptr);  // no thread reads the order while it changes
  if (from.split == Split::kTraining && order_epoch_ != from.epoch) {
    order_ = table_.epoch_order(from.epoch);
    order_epoch_ = from.epoch;
  }
  const BatchPlan& plan = this->plan(from.split);
  prefetcher_.restart(
      [this, &plan, at = from, taken = int64_t{0}]() mutable -> std::optional<SampleRequest> {
        while (at.step < plan.num_steps()) {
          const auto [begin, end] = plan.positions(at.step, at.micro_batch, options_.rank);
          if (begin + taken < end)
            return SampleRequest{at.split, at.epoch, sample_at(at.split, begin + taken++)};
          taken = 0;
          if (++at.micro_batch == plan.micro_batches_of(at.step)) {
            at.micro_batch = 0;
            ++at.step;
          }
        }
        return std::nullopt;
      });
}

std::span<const MicroBatch> Loader::Impl::fetch(Split split, int64_t epoch, int64_t step) {
  const BatchPlan& plan = this->plan(split);
  const int64_t count = plan.micro_batches_of(step);
  if (static_cast<int64_t>(batches_.size()) < count) batches_.resize(static_cast<size_t>(count));
  std::fill(bad_.begin(), bad_.end(), 0);
  Place place{split, epoch, step, 0};
  if (next_ != place) start_pass(place);
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
  const auto [begin, end] =
      plan(place.split).positions(place.step, place.micro_batch, options_.rank);
  for (int64_t position = begin; position < end; ++position) {
    const SampleRequest expected{place.split, place.epoch, sample_at(place.split, position)};
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
