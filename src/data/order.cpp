#include "data/order.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace facet {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The groups of one data set: group g is records[begin[g]..begin[g+1]).
struct Groups {
  std::vector<int32_t> records;
  std::vector<int64_t> begin{0};

  int64_t size() const { return static_cast<int64_t>(begin.size()) - 1; }
};

// Shuffles the records and cuts them into groups of 1..concatenate records; the last may be cut
// short. Streams are keyed by the data set's name, so they do not depend on the other data sets.
Groups group_records(const Dataset& dataset, int64_t concatenate, uint64_t seed) {
  const uint64_t key = hash_name(dataset.name());
  const int64_t n = dataset.num_records();
  Groups groups;
  groups.records.resize(static_cast<size_t>(n));
  if (concatenate == 1) {
    std::iota(groups.records.begin(), groups.records.end(), 0);
    groups.begin.resize(static_cast<size_t>(n) + 1);
    std::iota(groups.begin.begin(), groups.begin.end(), int64_t{0});
    return groups;
  }
  const std::vector<int64_t> order = random_permutation(n, RandomStream(seed, "grouping", key));
  std::transform(order.begin(), order.end(), groups.records.begin(),
                 [](int64_t record) { return static_cast<int32_t>(record); });
  RandomStream sizes(seed, "group size", key);
  while (groups.begin.back() < n) {
    const auto size = 1 + static_cast<int64_t>(sizes.below(static_cast<uint64_t>(concatenate)));
    groups.begin.push_back(std::min(n, groups.begin.back() + size));
  }
  return groups;
}

void check_request(const Dataset& dataset, const DatasetRequest& request) {
  CHECK(dataset.num_records() > 0, ExitCode::kBadData, "data set {} is empty", dataset.name());
  CHECK(request.samples == DatasetRequest::kAllSamples || request.samples > 0, ExitCode::kUsage,
        "--dataset_samples {} for data set {}: give a number from 1 on, or all", request.samples,
        dataset.name());
  CHECK(request.concatenate >= 1, ExitCode::kUsage,
        "--dataset_concatenate_samples {} for data set {}: give a number from 1 on",
        request.concatenate, dataset.name());
  CHECK(request.concatenate == 1 || !dataset.multi_image(), ExitCode::kConfig,
        "--dataset_concatenate_samples {} for data set {}: its records have several images and are "
        "never concatenated; give 1",
        request.concatenate, dataset.name());
}

// The indices of the groups to use: all, or `samples` of them drawn without replacement.
std::vector<int64_t> choose_groups(const Dataset& dataset, int64_t num_groups, int64_t samples,
                                   uint64_t seed) {
  std::vector<int64_t> chosen = random_permutation(
      num_groups, RandomStream(seed, "dataset samples", hash_name(dataset.name())));
  if (samples != DatasetRequest::kAllSamples)
    chosen.resize(static_cast<size_t>(std::min(samples, num_groups)));
  return chosen;
}

template <typename T>
void hash_vector(XXH3_state_t* state, const std::vector<T>& values) {
  XXH3_64bits_update(state, values.data(), values.size() * sizeof(T));
}

}  // namespace

SampleTable::SampleTable(const std::vector<std::unique_ptr<Dataset>>& datasets,
                         const std::vector<DatasetRequest>& requests, double train_split_ratio,
                         uint64_t seed)
    : seed_(seed) {
  ASSERT(datasets.size() == requests.size(), "{} data sets, {} requests", datasets.size(),
         requests.size());
  CHECK(!datasets.empty(), ExitCode::kUsage, "--dataset_names names no data set");
  CHECK(train_split_ratio > 0 && train_split_ratio <= 1, ExitCode::kUsage,
        "--data_train_split_ratio {} is not in (0, 1]", train_split_ratio);
  for (size_t d = 0; d < datasets.size(); ++d) {
    for (const Dataset* other : datasets_)
      CHECK(other->name() != datasets[d]->name(), ExitCode::kConfig,
            "--dataset_names has {} twice: evaluation samples would be trained on", other->name());
    datasets_.push_back(datasets[d].get());
    add_groups(static_cast<int32_t>(d), requests[d]);
  }
  const auto n = static_cast<int64_t>(group_dataset_.size());
  shuffled_ = random_permutation(n, RandomStream(seed, "blend"));
  num_training_ = static_cast<int64_t>(static_cast<double>(n) * train_split_ratio);
  CHECK(num_training_ > 0, ExitCode::kConfig,
        "--data_train_split_ratio {} of {} samples leaves none to train on", train_split_ratio, n);
  sort_by_weight(requests);
  fingerprint_ = compute_fingerprint();
}

void SampleTable::sort_by_weight(const std::vector<DatasetRequest>& requests) {
  if (requests[0].weight == 0) return;
  for (size_t d = 0; d < requests.size(); ++d) {
    ASSERT(requests[d].weight > 0, "a weight of {}", requests[d].weight);
    weighted_.push_back({datasets_[d]->name(), requests[d].weight, {}});
  }
  for (int64_t sample = 0; sample < num_training_; ++sample)
    weighted_[static_cast<size_t>(dataset_of(Split::kTraining, sample))].samples.push_back(sample);
}

std::vector<int64_t> SampleTable::epoch_order(int64_t epoch) const {
  return weighted_.empty() ? epoch_permutation(num_training_, seed_, epoch)
                           : weighted_epoch(weighted_, seed_, epoch);
}

void SampleTable::add_groups(int32_t index, const DatasetRequest& request) {
  const Dataset& dataset = *datasets_[static_cast<size_t>(index)];
  check_request(dataset, request);
  const Groups groups = group_records(dataset, request.concatenate, seed_);
  for (const int64_t group : choose_groups(dataset, groups.size(), request.samples, seed_)) {
    const auto g = static_cast<size_t>(group);
    records_.insert(records_.end(), groups.records.begin() + groups.begin[g],
                    groups.records.begin() + groups.begin[g + 1]);
    group_begin_.push_back(static_cast<int64_t>(records_.size()));
    group_dataset_.push_back(index);
  }
}

int64_t SampleTable::num_samples(Split split) const {
  return split == Split::kTraining ? num_training_
                                   : static_cast<int64_t>(shuffled_.size()) - num_training_;
}

size_t SampleTable::group_of(Split split, int64_t sample) const {
  ASSERT(sample >= 0 && sample < num_samples(split), "sample {} of {}", sample, num_samples(split));
  const int64_t position = split == Split::kTraining ? sample : num_training_ + sample;
  return static_cast<size_t>(shuffled_[static_cast<size_t>(position)]);
}

int32_t SampleTable::dataset_of(Split split, int64_t sample) const {
  return group_dataset_[group_of(split, sample)];
}

std::span<const int32_t> SampleTable::records_of(Split split, int64_t sample) const {
  const size_t group = group_of(split, sample);
  return {records_.data() + group_begin_[group], records_.data() + group_begin_[group + 1]};
}

RawSample SampleTable::read(Split split, int64_t sample, int64_t epoch) const {
  RandomStream draws(seed_, split == Split::kTraining ? "training draws" : "evaluation draws",
                     static_cast<uint64_t>(epoch), static_cast<uint64_t>(sample));
  const Dataset& dataset = *datasets_[static_cast<size_t>(dataset_of(split, sample))];
  RawSample whole;
  for (const int32_t record : records_of(split, sample)) {
    RawSample one = dataset.read(record, draws);
    whole.image_numbers = one.image_numbers;
    if (whole.rounds.empty()) whole.system_text = std::move(one.system_text);
    std::move(one.rounds.begin(), one.rounds.end(), std::back_inserter(whole.rounds));
  }
  return whole;
}

uint64_t SampleTable::compute_fingerprint() const {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const Dataset* dataset : datasets_) {
    const uint64_t hashes[] = {hash_name(dataset->name()), dataset->fingerprint()};
    XXH3_64bits_update(state.get(), hashes, sizeof hashes);
  }
  hash_vector(state.get(), records_);
  hash_vector(state.get(), group_begin_);
  hash_vector(state.get(), shuffled_);
  XXH3_64bits_update(state.get(), &num_training_, sizeof num_training_);
  for (const WeightedSet& set : weighted_)
    XXH3_64bits_update(state.get(), &set.weight, sizeof set.weight);
  return XXH3_64bits_digest(state.get());
}

std::vector<int64_t> epoch_permutation(int64_t num_samples, uint64_t seed, int64_t epoch) {
  return random_permutation(num_samples,
                            RandomStream(seed, "epoch order", static_cast<uint64_t>(epoch)));
}

int64_t BatchPlan::num_micro_batches() const { return ceil_div(num_samples, per_device * ranks); }

int64_t BatchPlan::num_steps() const { return ceil_div(num_micro_batches(), accumulation); }

int64_t BatchPlan::micro_batches_of(int64_t step) const {
  ASSERT(step >= 0 && step < num_steps(), "step {} of {}", step, num_steps());
  return std::min(accumulation, num_micro_batches() - step * accumulation);
}

BatchPlan::Positions BatchPlan::positions(int64_t step, int64_t micro_batch, int64_t rank) const {
  const int64_t first = step * global_batch() + (micro_batch * ranks + rank) * per_device;
  return {std::min(first, num_samples), std::min(first + per_device, num_samples)};
}

}  // namespace facet
