#include "data/sample_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "base/check.h"
#include "data/record_check.h"
#include "data/sample_work.h"

namespace facet {

namespace {

struct Place {
  Split split;
  int64_t sample;
};

// Evaluation samples are numbered on from those of training.
Place place_of(const SampleTable& table, int64_t number) {
  const int64_t training = table.num_samples(Split::kTraining);
  if (number < training) return {Split::kTraining, number};
  return {Split::kEvaluation, number - training};
}

// In the order of data sets and first records.
std::vector<int64_t> by_records(const SampleTable& table) {
  const int64_t samples =
      table.num_samples(Split::kTraining) + table.num_samples(Split::kEvaluation);
  std::vector<std::pair<int64_t, int64_t>> keyed;
  for (int64_t number = 0; number < samples; ++number) {
    const auto [split, sample] = place_of(table, number);
    const int64_t set = table.dataset_of(split, sample);
    keyed.emplace_back(set << 32 | table.records_of(split, sample)[0], number);
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<int64_t> numbers;
  for (const auto& [key, number] : keyed) numbers.push_back(number);
  return numbers;
}

void add_counts(Counts& counts, const Counts& others) {
  for (const auto& [value, count] : others) counts[value] += count;
}

}  // namespace

int64_t SetStatistics::samples() const {
  return std::accumulate(fates.begin(), fates.end(), int64_t{0});
}

void SetStatistics::add(const SetStatistics& other) {
  for (size_t fate = 0; fate < kNumFates; ++fate) fates[fate] += other.fates[fate];
  add_counts(lengths, other.lengths);
  add_counts(images, other.images);
  endless += other.endless;
  rows += other.rows;
  labels += other.labels;
}

std::string packed(const std::vector<SetStatistics>& sets) {
  std::string text;
  for (const SetStatistics& set : sets) {
    text +=
        fmt::format("{} {} {} {}", fmt::join(set.fates, " "), set.endless, set.rows, set.labels);
    for (const Counts* counts : {&set.lengths, &set.images}) {
      text += fmt::format(" {}", counts->size());
      for (const auto& [value, count] : *counts) text += fmt::format(" {} {}", value, count);
    }
    text += '\n';
  }
  return text;
}

std::vector<SetStatistics> unpacked(const std::string& text) {
  std::vector<SetStatistics> sets;
  std::istringstream stream(text);
  for (int64_t first = 0; stream >> first;) {
    SetStatistics& set = sets.emplace_back();
    set.fates[0] = first;
    for (size_t fate = 1; fate < kNumFates; ++fate) stream >> set.fates[fate];
    stream >> set.endless >> set.rows >> set.labels;
    for (Counts* counts : {&set.lengths, &set.images}) {
      size_t size = 0;
      stream >> size;
      for (int64_t value = 0, count = 0; size > 0 && stream >> value >> count; --size)
        (*counts)[value] = count;
    }
  }
  return sets;
}

std::optional<int64_t> quantile(const std::map<int64_t, double>& weights, double above,
                                double share) {
  constexpr double kRounding = 1e-12;  // 0.07 * 100 is more than 7
  double total = above;
  for (const auto& [value, weight] : weights) total += weight;
  double up_to = 0;
  for (const auto& [value, weight] : weights) {
    up_to += weight;
    if (up_to >= share * total * (1 - kRounding)) return value;
  }
  return std::nullopt;
}

SampleStatistics::SampleStatistics(const SampleTable& table, const SampleBuilder& builder,
                                   const SampleBuilder& uncut, const StatisticsOptions& options)
    : table_(table),
      builder_(builder),
      uncut_(uncut),
      options_(options),
      samples_(by_records(table)),
      walk_(std::ssize(samples_), options.rank, options.ranks),
      sets_(static_cast<size_t>(table.num_datasets())),
      bad_(sets_.size()) {}

void SampleStatistics::go_on(double seconds) {
  walk_.go_on(seconds, [this](int64_t item, PreparedSample& scratch) { look_at(item, scratch); });
}

int64_t SampleStatistics::num_left_out() const {
  int64_t sum = 0;
  for (const SetStatistics& set : sets_) sum += set.left_out();
  return sum;
}

std::vector<BadItem> SampleStatistics::named() const {
  std::vector<BadItem> list;
  for (const auto& of_set : bad_)
    for (const auto& [item, record] : of_set) list.push_back({item, record});
  return list;
}

void SampleStatistics::look_at(int64_t item, PreparedSample& scratch) {
  const auto [split, sample] = place_of(table_, samples_[static_cast<size_t>(item)]);
  const auto set = static_cast<size_t>(table_.dataset_of(split, sample));
  RawSample raw;
  try {
    raw = table_.read(split, sample, 0);
    build_text_checked(builder_, raw, options_.max_images, scratch);
    note(set, kept(raw, scratch));
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    note(set, left_out(raw, scratch));
    note_bad(set, item,
             bad_record(table_.dataset(static_cast<int64_t>(set)), table_.records_of(split, sample),
                        raw, error));
  }
}

SampleStatistics::Finding SampleStatistics::kept(const RawSample& sample,
                                                 PreparedSample& built) const {
  const WorkModel model{.image_tokens = options_.image_tokens};
  const SampleShape shape = model.shape(built, builder_.image_token_id());
  Finding finding{Fate::kWhole, shape.rows, sample.num_images(), shape.rows, shape.labels};
  if (built.num_rounds == std::ssize(sample.rounds)) return finding;
  finding.fate = Fate::kCut;
  finding.length = uncut_length(sample, built);
  return finding;
}

// `sample` is empty if it could not be read.
SampleStatistics::Finding SampleStatistics::left_out(const RawSample& sample,
                                                     PreparedSample& scratch) const {
  if (sample.rounds.empty()) return {Fate::kUnusable};
  if (first_empty_answer(sample) < sample.rounds.size()) return {Fate::kEmptyAnswer};
  if (sample.num_images() > options_.max_images) return {Fate::kTooManyImages};
  const std::optional<int64_t> length = uncut_length(sample, scratch);
  if (!length) return {Fate::kUnusable};
  return {Fate::kTooLong, length, sample.num_images()};
}

std::optional<int64_t> SampleStatistics::uncut_length(const RawSample& sample,
                                                      PreparedSample& scratch) const {
  try {
    build_text_checked(uncut_, sample, options_.max_images, scratch);
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    return std::nullopt;
  }
  if (scratch.num_rounds < std::ssize(sample.rounds)) return std::nullopt;
  const WorkModel model{.image_tokens = options_.image_tokens};
  return model.shape(scratch, uncut_.image_token_id()).rows;
}

void SampleStatistics::note(size_t set, const Finding& finding) {
  const std::lock_guard lock(mutex_);
  SetStatistics& statistics = sets_[set];
  ++statistics.fates[static_cast<size_t>(finding.fate)];
  statistics.rows += finding.rows;
  statistics.labels += finding.labels;
  const bool is_cut = finding.fate == Fate::kCut;
  if (!finding.length && !is_cut) return;
  ++statistics.images[finding.images];
  if (finding.length)
    ++statistics.lengths[*finding.length];
  else
    ++statistics.endless;
}

// Threads and ranks come by in any order.
void SampleStatistics::note_bad(size_t set, int64_t item, BadRecord bad) {
  const std::lock_guard lock(mutex_);
  bad_[set].emplace(item, std::move(bad));
  if (bad_[set].size() > kNamedOfSet) bad_[set].erase(std::prev(bad_[set].end()));
}

}  // namespace facet
