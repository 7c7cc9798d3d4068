// How long the samples of the data sets are, and which of them training would cut or leave out:
// what `facet data-stats` shows. Text only: no image is opened.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/bad_samples.h"
#include "data/item_walk.h"
#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

// What becomes of a sample.
enum class Fate : uint8_t {
  kWhole,          // trained on with all its rounds
  kCut,            // without its last rounds, which do not fit
  kTooLong,        // left out: its first round alone does not fit
  kTooManyImages,  // left out
  kEmptyAnswer,    // left out
  kUnusable,       // left out: malformed, beyond kMaxLength, or nothing to learn from
};
inline constexpr size_t kNumFates = 6;

// Value -> how many samples have it.
using Counts = std::map<int64_t, int64_t>;

struct SetStatistics {
  std::array<int64_t, kNumFates> fates{};
  // Of the samples that are whole, cut or too long, as they were before that: L, the tokens of text
  // and images after splicing, and the number of images.
  Counts lengths, images;
  // Cut samples that have no entry in `lengths`: with more than SampleStatistics::kMaxLength
  // tokens, or with a bad round after the cut. No --max_seq_len keeps them whole.
  int64_t endless = 0;
  int64_t rows = 0, labels = 0;  // of what is trained on: positions, those that predict a label

  int64_t of(Fate fate) const { return fates[static_cast<size_t>(fate)]; }
  int64_t samples() const;
  int64_t left_out() const { return samples() - of(Fate::kWhole) - of(Fate::kCut); }
  void add(const SetStatistics& other);
};

// To send them to another rank, and back.
std::string packed(const std::vector<SetStatistics>& sets);
std::vector<SetStatistics> unpacked(const std::string& text);

// The smallest number that at least this share (in (0, 1]) of all counted, by weight, do not
// exceed: no value in between is made up. `above` is the weight of those that exceed every number
// in `weights`; nothing if it would be one of these, or nothing is counted.
std::optional<int64_t> quantile(const std::map<int64_t, double>& weights, double above,
                                double share);

struct StatisticsOptions {
  int64_t max_images = 8;    // --max_num_image_per_sample
  int64_t image_tokens = 1;  // S
  int64_t rank = 0;
  int64_t ranks = 1;
};

// This rank's share of all samples of a table, training and evaluation, with the draws of the first
// epoch. They are read in the order of their records, not in that of training, which jumps.
class SampleStatistics {
 public:
  static constexpr int64_t kMaxLength = int64_t{1} << 20;
  static constexpr size_t kNamedOfSet = 3;

  // `builder` is that of training; `uncut` the same with room for kMaxLength tokens at least. All
  // three must outlive it.
  SampleStatistics(const SampleTable& table, const SampleBuilder& builder,
                   const SampleBuilder& uncut, const StatisticsOptions& options);

  int64_t num_items() const { return walk_.num_items(); }  // samples, of all ranks

  // Counts more of this rank's samples for about that long, on all threads. Errors that are not a
  // sample's own fault are thrown.
  void go_on(double seconds);
  int64_t done() const { return walk_.done(); }
  int64_t num_left_out() const;

  const std::vector<SetStatistics>& sets() const { return sets_; }
  // The first kNamedOfSet that are left out, of each data set.
  std::vector<BadItem> named() const;

 private:
  // Of one sample.
  struct Finding {
    Fate fate = Fate::kUnusable;
    std::optional<int64_t> length = {};  // before anything is cut
    int64_t images = 0, rows = 0, labels = 0;
  };

  void look_at(int64_t item, PreparedSample& scratch);
  Finding kept(const RawSample& sample, PreparedSample& built) const;
  Finding left_out(const RawSample& sample, PreparedSample& scratch) const;
  std::optional<int64_t> uncut_length(const RawSample& sample, PreparedSample& scratch) const;
  void note(size_t set, const Finding& finding);
  void note_bad(size_t set, int64_t item, BadRecord bad);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  const SampleBuilder& uncut_;
  StatisticsOptions options_;
  std::vector<int64_t> samples_;  // by their records; evaluation samples count on from the others
  ItemWalk walk_;
  std::mutex mutex_;  // of what follows
  std::vector<SetStatistics> sets_;
  std::vector<std::map<int64_t, BadRecord>> bad_;  // of each set, by item
};

}  // namespace facet
