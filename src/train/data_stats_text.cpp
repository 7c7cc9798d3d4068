#include "train/data_stats_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace facet {

namespace {

using Row = std::vector<std::string>;

// The first column to the left, the others to the right.
std::string aligned(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const Row& row : rows) {
    text += fmt::format("{:<{}}", row[0], widths[0]);
    for (size_t i = 1; i < row.size(); ++i) text += fmt::format("  {:>{}}", row[i], widths[i]);
    text += '\n';
  }
  text.pop_back();
  return text;
}

std::string quantile_text(const Distribution& numbers, double share) {
  const std::optional<int64_t> number = quantile(numbers.weights, numbers.above, share);
  return number ? fmt::format("{}", *number) : "-";
}

std::string least_text(const Distribution& numbers) {
  return numbers.weights.empty() ? "-" : fmt::format("{}", numbers.weights.begin()->first);
}

// A row's numbers, of one set or of all.
struct Totals {
  std::string name;
  int64_t records = 0;
  std::array<int64_t, kNumFates> fates{};
  Distribution lengths = {}, images = {};
  double rows = 0, labels = 0;

  void add(const DataStatsReport::Set& set, double weight) {
    records += set.records;
    for (size_t fate = 0; fate < kNumFates; ++fate) fates[fate] += set.statistics.fates[fate];
    lengths.add(set.statistics.lengths, set.statistics.endless, weight);
    images.add(set.statistics.images, 0, weight);
    rows += weight * static_cast<double>(set.statistics.rows);
    labels += weight * static_cast<double>(set.statistics.labels);
  }
};

Row row_of(const Totals& totals, const std::string& seen) {
  SetStatistics counts;
  counts.fates = totals.fates;
  const std::string images =
      totals.images.weights.empty()
          ? "-"
          : fmt::format("{} {:.2f} {}", least_text(totals.images), totals.images.mean(),
                        quantile_text(totals.images, 1));
  Row row = {totals.name, fmt::format("{}", totals.records), fmt::format("{}", counts.samples()),
             least_text(totals.lengths)};
  for (const double share : {0.5, 0.95, 0.99, 1.0})
    row.push_back(quantile_text(totals.lengths, share));
  row.push_back(images);
  row.push_back(totals.rows > 0 ? fmt::format("{:.1f} %", 100 * totals.labels / totals.rows) : "-");
  row.push_back(fmt::format("{}", counts.of(Fate::kCut)));
  row.push_back(fmt::format("{}", counts.left_out()));
  if (!seen.empty()) row.push_back(seen);
  return row;
}

Totals totals_of(const DataStatsReport& report) {
  Totals all{.name = "mixture"};
  for (const DataStatsReport::Set& set : report.sets) all.add(set, report.weight_of(set));
  return all;
}

// "2 with more images than --max_num_image_per_sample, 1 with an empty answer"
std::string reasons_text(const SetStatistics& set, int64_t max_seq_len) {
  const std::pair<Fate, std::string> kinds[] = {
      {Fate::kTooLong,
       fmt::format("whose first round alone exceeds --max_seq_len {}", max_seq_len)},
      {Fate::kTooManyImages, "with more images than --max_num_image_per_sample"},
      {Fate::kEmptyAnswer, "with an empty answer"},
      {Fate::kUnusable, "malformed or without anything to learn from"}};
  std::string text;
  for (const auto& [fate, words] : kinds)
    if (set.of(fate) > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", set.of(fate), words);
  return text;
}

std::string fit_sentence(const DataStatsReport& report) {
  const Distribution lengths = lengths_of_mixture(report);
  if (lengths.total() == 0) return "no sample has a length: nothing can be trained on";
  const double beyond = lengths.share_above(report.max_seq_len);
  const std::optional<int64_t> most = quantile(lengths.weights, lengths.above, 0.99);
  const std::optional<int64_t> all = quantile(lengths.weights, lengths.above, 1);
  const std::string of_most =
      most ? fmt::format("--max_seq_len {} keeps 99 % of the samples whole", *most)
           : "no --max_seq_len keeps 99 % of the samples whole";
  const std::string of_all = all ? fmt::format("{} all of them", *all) : "none all of them";
  if (beyond == 0)
    return fmt::format("every sample fits into --max_seq_len {}; {}, {}", report.max_seq_len,
                       of_most, of_all);
  return fmt::format(
      "{} of the samples exceed --max_seq_len {} and lose rounds or are left out; {}, {}",
      percent_text(beyond), report.max_seq_len, of_most, of_all);
}

void add_sentences_of(const DataStatsReport& report, const DataStatsReport::Set& set,
                      std::vector<std::string>& sentences) {
  const SetStatistics& counts = set.statistics;
  if (counts.left_out() == counts.samples())
    sentences.push_back(fmt::format(
        "data set {}: none of its samples can be used: a run would end at its start", set.name));
  if (counts.left_out() > 0)
    sentences.push_back(fmt::format("data set {}: {} of {} samples are left out: {}", set.name,
                                    counts.left_out(), counts.samples(),
                                    reasons_text(counts, report.max_seq_len)));
  if (counts.endless > 0)
    sentences.push_back(fmt::format(
        "data set {}: {} of the samples that are cut have more than {} tokens or a malformed round "
        "after the cut: no --max_seq_len keeps them whole",
        set.name, counts.endless, std::max(SampleStatistics::kMaxLength, report.max_seq_len)));
}

// Whether a run gets over what it leaves out; "" if it does.
std::string end_sentence(const DataStatsReport& report) {
  double left_out = 0, all = 0;
  for (const DataStatsReport::Set& set : report.sets) {
    left_out += report.weight_of(set) * static_cast<double>(set.statistics.left_out());
    all += report.weight_of(set) * static_cast<double>(set.statistics.samples());
  }
  if (left_out == 0) return "";
  const std::string too_many =
      left_out > report.max_bad_fraction * all
          ? fmt::format("{} of the samples are more than --max_bad_fraction {}",
                        percent_text(left_out / all), report.max_bad_fraction)
          : "";
  if (report.skips_bad)
    return too_many.empty() ? "" : "a run would end in its first epoch: " + too_many;
  return "a run would end at the first sample that is left out" +
         (too_many.empty() ? "; with --bad_samples skip it goes on"
                           : ", and later with --bad_samples skip: " + too_many);
}

}  // namespace

void Distribution::add(const Counts& counts, int64_t above_them, double weight) {
  for (const auto& [number, count] : counts) weights[number] += weight * static_cast<double>(count);
  above += weight * static_cast<double>(above_them);
}

double Distribution::total() const {
  double sum = above;
  for (const auto& [number, weight] : weights) sum += weight;
  return sum;
}

double Distribution::mean() const {
  double sum = 0;
  for (const auto& [number, weight] : weights) sum += static_cast<double>(number) * weight;
  return sum / (total() - above);
}

double Distribution::share_above(int64_t limit) const {
  double sum = above;
  for (auto each = weights.upper_bound(limit); each != weights.end(); ++each) sum += each->second;
  return sum / total();
}

Distribution lengths_of(const SetStatistics& set) {
  Distribution lengths;
  lengths.add(set.lengths, set.endless, 1);
  return lengths;
}

Distribution lengths_of_mixture(const DataStatsReport& report) { return totals_of(report).lengths; }

std::string percent_text(double share) { return fmt::format("{:.3g} %", 100 * share); }

std::string data_stats_table(const DataStatsReport& report) {
  Row head = {"data set", "records", "samples", "min",      "median", "95 %",
              "99 %",     "max",     "images",  "labelled", "cut",    "left out"};
  if (report.weighted) head.push_back("seen");
  std::vector<Row> rows = {head};
  for (const DataStatsReport::Set& set : report.sets) {
    Totals totals{.name = set.name};
    totals.add(set, 1);
    rows.push_back(row_of(totals, report.weighted ? fmt::format("{:.2f}", set.seen()) : ""));
  }
  if (report.sets.size() > 1)
    rows.push_back(row_of(totals_of(report), report.weighted ? "1.00" : ""));
  return fmt::format(
      "min to max: tokens of a sample, of its text and its images ({} each), before anything is "
      "cut\nimages: of a sample, min mean max; labelled: share of the trained positions\n{}{}",
      report.image_tokens,
      report.weighted ? "seen: how often an epoch takes a training sample; the mixture counts "
                        "lengths, images and labels so often\n"
                      : "",
      aligned(rows));
}

std::vector<std::string> data_stats_sentences(const DataStatsReport& report) {
  std::vector<std::string> sentences = {fit_sentence(report)};
  for (const DataStatsReport::Set& set : report.sets) add_sentences_of(report, set, sentences);
  if (const std::string end = end_sentence(report); !end.empty()) sentences.push_back(end);
  return sentences;
}

}  // namespace facet
