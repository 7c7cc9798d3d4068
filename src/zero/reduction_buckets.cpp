#include "zero/reduction_buckets.h"

#include <algorithm>
#include <exception>

#include "base/check.h"
#include "optim/partition.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

// With overlap one bucket is in flight while the next one is filled.
size_t number_of_buckets(int ranks, Overlap overlap) {
  if (ranks == 1) return 0;
  return overlap == Overlap::kYes ? 2 : 1;
}

}  // namespace

// Elements of each rank's part of a bucket.
int64_t ReductionBuckets::capacity(int ranks, const ReductionOptions& options,
                                   int64_t slice_elements) {
  const int64_t granules = options.bucket_elements / ranks / kSliceGranule;
  return std::min(slice_elements, std::max<int64_t>(1, granules) * kSliceGranule);
}

ReductionBuckets::Bucket ReductionBuckets::allocate_bucket(Arena& memory, int ranks,
                                                           const ReductionOptions& options,
                                                           int64_t capacity) {
  Bucket bucket;
  bucket.sent = memory.tensor({ranks, capacity}, options.dtype);
  bucket.received = memory.tensor({ranks, capacity}, options.dtype);
  return bucket;
}

int64_t ReductionBuckets::bytes(int ranks, const ReductionOptions& options,
                                int64_t slice_elements) {
  Arena plan("buckets");
  for (size_t i = 0; i < number_of_buckets(ranks, options.overlap); ++i)
    allocate_bucket(plan, ranks, options, capacity(ranks, options, slice_elements));
  return plan.peak();
}

ReductionBuckets::ReductionBuckets(Communicator& world, Backend& ops,
                                   const ReductionOptions& options, SumInto into,
                                   int64_t slice_elements)
    : world_(world),
      ops_(ops),
      into_(into),
      overlap_(options.overlap),
      capacity_(capacity(world.size(), options, slice_elements)) {
  const int64_t needed = bytes(world.size(), options, slice_elements);
  if (needed == 0) return;  // one rank, or nothing to reduce
  memory_ = std::make_unique<Arena>("buckets", needed, ops.memory());
  for (size_t i = 0; i < number_of_buckets(world.size(), overlap_); ++i) {
    Bucket& bucket =
        buckets_.emplace_back(allocate_bucket(*memory_, world.size(), options, capacity_));
    for (int rank = 0; rank < world.size(); ++rank) {
      bucket.parts.counts.push_back(0);
      bucket.parts.offsets.push_back(static_cast<int>(rank * capacity_));
    }
  }
}

// While an exception unwinds this rank, MPI may still write to the buckets until the job is
// aborted, so they are leaked.
ReductionBuckets::~ReductionBuckets() {
  if (std::uncaught_exceptions() == 0)
    for (Bucket& bucket : buckets_) world_.wait(bucket.pending);
  else
    static_cast<void>(memory_.release());
}

void ReductionBuckets::reduce(Tensor slice, Tensor contributions) {
  ASSERT(contributions.numel() == world_.size() * slice.numel(),
         "slices of {} elements on {} ranks do not add up to {}", slice.numel(), world_.size(),
         contributions.numel());
  if (buckets_.empty()) {  // one rank: the sum is the local gradient, perhaps in place already
    if (into_ == SumInto::kAdd)
      ops_.add_accumulate(slice, contributions);
    else if (slice.raw() != contributions.raw())
      ops_.copy(slice, contributions);
    return;
  }
  for (int64_t begin = 0; begin < slice.numel();) {
    if (buckets_[filling_].started) finish(buckets_[filling_]);
    const int64_t count = std::min(slice.numel() - begin, capacity_ - buckets_[filling_].filled);
    pack(slice, contributions, begin, count);
    begin += count;
    if (buckets_[filling_].filled == capacity_) start();
  }
}

// Packs elements [begin, begin + count) of every rank's slice.
void ReductionBuckets::pack(const Tensor& slice, const Tensor& contributions, int64_t begin,
                            int64_t count) {
  Bucket& bucket = buckets_[filling_];
  const Tensor rows = contributions.view({world_.size(), slice.numel()});
  ops_.copy(bucket.sent.column_block(bucket.filled, count), rows.column_block(begin, count));
  bucket.pieces.push_back({flat_range(slice, begin, count), bucket.filled});
  bucket.filled += count;
}

void ReductionBuckets::start() {
  Bucket& bucket = buckets_[filling_];
  std::fill(bucket.parts.counts.begin(), bucket.parts.counts.end(),
            static_cast<int>(bucket.filled));
  bucket.pending = world_.start_exchange(bucket.received, bucket.sent, bucket.parts);
  bucket.started = true;
  filling_ = (filling_ + 1) % buckets_.size();
  if (overlap_ == Overlap::kNo) finish(bucket);
}

void ReductionBuckets::finish(Bucket& bucket) {
  world_.wait(bucket.pending);
  for (const Piece& piece : bucket.pieces) {
    const Tensor parts = bucket.received.column_block(piece.begin, piece.slice.numel());
    if (into_ == SumInto::kAdd)
      ops_.sum_rows_accumulate(piece.slice, parts);
    else
      ops_.sum_rows(piece.slice, parts);
  }
  bucket.pieces.clear();
  bucket.filled = 0;
  bucket.started = false;
}

void ReductionBuckets::flush() {
  if (buckets_.empty() || buckets_[filling_].started) return;
  if (buckets_[filling_].filled > 0) start();
}

// Every step begins with the same bucket, so that no list of pieces grows after the first step.
void ReductionBuckets::wait() {
  flush();
  for (size_t i = 0; i < buckets_.size(); ++i) finish(buckets_[(filling_ + i) % buckets_.size()]);
  filling_ = 0;
}

}  // namespace facet
