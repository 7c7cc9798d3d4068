#include "train/timed_all_reduce.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/timer.h"

namespace facet {

namespace {

constexpr int64_t kElementBytes = sizeof(float);

int64_t elements_of(int64_t bytes, int ranks) {
  const int64_t part = (bytes / kElementBytes + ranks - 1) / ranks;
  return std::max<int64_t>(part, 1) * ranks;
}

int64_t memory_for(int64_t elements, int ranks) {
  constexpr int64_t kAlignment = 64, kTensors = 4;
  return (3 * elements + elements / ranks) * kElementBytes + kTensors * kAlignment;
}

}  // namespace

int64_t TimedAllReduce::bytes(int64_t bytes, int ranks) {
  return elements_of(bytes, ranks) * kElementBytes;
}

TimedAllReduce::TimedAllReduce(Communicator& ranks, Backend& ops, int64_t most_bytes,
                               const FaultInjection& faults, int world_rank)
    : ranks_(ranks),
      ops_(ops),
      faults_(faults),
      world_rank_(world_rank),
      memory_("all-reduces", memory_for(elements_of(most_bytes, ranks.size()), ranks.size()),
              ops.memory()) {
  const int64_t most = elements_of(most_bytes, ranks.size());
  for (Tensor* const whole : {&sent_, &received_, &sums_}) *whole = memory_.tensor({most});
  slice_ = memory_.tensor({most / ranks.size()});
  ops_.fill(sent_, static_cast<float>(ranks.rank() + 1));
}

double TimedAllReduce::seconds(int64_t bytes, int64_t repeats) {
  const int64_t count = elements_of(bytes, ranks_.size());
  std::vector<double> taken;
  once(count);
  for (int64_t i = 0; i < repeats; ++i) taken.push_back(once(count));
  check_sums(count);
  std::nth_element(taken.begin(), taken.begin() + repeats / 2, taken.end());
  return taken[static_cast<size_t>(repeats / 2)];
}

// Of the slowest rank; all begin together.
double TimedAllReduce::once(int64_t elements) {
  const int64_t part = elements / ranks_.size();
  Communicator::Parts parts;
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    parts.counts.push_back(static_cast<int>(part));
    parts.offsets.push_back(static_cast<int>(rank * part));
  }
  const Tensor sent = sent_.range(0, elements), received = received_.range(0, elements);
  const Tensor slice = slice_.range(0, part);
  ranks_.max(0);
  const Timer timer;
  faults_.at("bandwidth", world_rank_, ++repetition_);
  Communicator::Pending exchange = ranks_.start_exchange(received, sent, parts);
  ranks_.wait(exchange);
  ops_.sum_rows(slice, received.view({ranks_.size(), part}));
  ranks_.all_gather(sums_.range(0, elements), slice);
  float last = 0;
  ops_.copy_to_host(&last, sums_.range(elements - 1, 1));  // a device is done then
  const double seconds = timer.seconds();
  const std::span<const double> of_all = ranks_.all_gather(std::span(&seconds, 1));
  return *std::max_element(of_all.begin(), of_all.end());
}

// A sample of each rank's part.
void TimedAllReduce::check_sums(int64_t elements) {
  const int64_t part = elements / ranks_.size();
  const auto expected =
      static_cast<float>(ranks_.size()) * static_cast<float>(ranks_.size() + 1) / 2;
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    float sum = 0;
    ops_.copy_to_host(&sum, sums_.range(rank * part + part / 2, 1));
    CHECK(sum == expected, ExitCode::kInternal,
          "an all-reduce of {} elements gave {} instead of {} in the part of rank {}", elements,
          sum, expected, rank);
  }
}

}  // namespace facet
