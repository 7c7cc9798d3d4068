// Every record of the data sets, each decoded and built as in training: what --check_all_samples
// does before a long run. A sample of several records (--dataset_concatenate_samples) can be bad
// although each of them is good, when their images are too many together: such samples are looked
// at too, without decoding them again.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "data/bad_samples.h"
#include "data/item_walk.h"
#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

// These records of the data set, and which of their files the error is about: the image that it
// names, or else the annotation file.
BadRecord bad_record(const Dataset& dataset, std::span<const int32_t> records,
                     const RawSample& sample, const Error& error);

// This rank's share of all items, records first.
class RecordCheck {
 public:
  // Table and builder must outlive it.
  RecordCheck(const SampleTable& table, const SampleBuilder& builder, int64_t max_images,
              int64_t rank, int64_t ranks);

  // Of all ranks.
  int64_t num_records() const { return first_record_.back(); }
  int64_t num_items() const { return num_records() + static_cast<int64_t>(joined_.size()); }

  // Checks more of this rank's items for about that long, on all threads. Errors that are not a
  // record's own fault are thrown.
  void go_on(double seconds);
  int64_t checked() const { return walk_.done(); }
  const std::vector<BadItem>& bad() const { return bad_; }

 private:
  struct Joined {
    Split split;
    int64_t sample;
  };

  static std::vector<int64_t> first_records(const SampleTable& table);
  static std::vector<Joined> joined_samples(const SampleTable& table);
  void check_record(int64_t item, PreparedSample& scratch);
  void check_joined(int64_t item);
  void note_bad(int64_t item, BadRecord bad);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  int64_t max_images_;
  std::vector<int64_t> first_record_;  // (data sets + 1)
  std::vector<Joined> joined_;         // samples of more than one record
  ItemWalk walk_;
  std::mutex mutex_;  // of what follows
  std::vector<BadItem> bad_;
};

}  // namespace facet
