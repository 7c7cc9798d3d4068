// Every record of the data sets, each decoded and built as in training: what --check_all_samples
// does before a long run. A sample of several records (--dataset_concatenate_samples) can be bad
// although each of them is good, when their images are too many together: such samples are looked
// at too, without decoding them again.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "data/bad_samples.h"
#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

// This rank's share: of all items, records first, every ranks-th.
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
  int64_t checked() const { return checked_; }

  struct Bad {
    int64_t item = 0;  // the same on any number of ranks
    BadRecord record;
  };
  const std::vector<Bad>& bad() const { return bad_; }

 private:
  struct Joined {
    Split split;
    int64_t sample;
  };

  void check(int64_t item, PreparedSample& scratch);
  void check_record(int64_t item, PreparedSample& scratch);
  void check_joined(int64_t item);
  void note_bad(int64_t item, BadRecord bad);

  const SampleTable& table_;
  const SampleBuilder& builder_;
  int64_t max_images_, rank_, ranks_;
  std::vector<int64_t> first_record_{0};  // (data sets + 1)
  std::vector<Joined> joined_;            // samples of more than one record
  std::atomic<int64_t> next_{0}, checked_{0};
  std::mutex mutex_;  // of what follows
  std::vector<Bad> bad_;
  std::exception_ptr failure_;
};

}  // namespace facet
