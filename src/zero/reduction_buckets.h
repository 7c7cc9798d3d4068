// The reduce-scatter of gradients. Local gradients are packed into buckets; a full bucket is
// exchanged by one all-to-all, and every rank sums what it receives for its slice in rank order. So
// the sums have the same bits whatever the bucket size, and whether a bucket is waited for at once
// or, with Overlap::kYes, while the next one is filled.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

enum class Overlap : uint8_t { kNo, kYes };

struct ReductionOptions {
  int64_t bucket_elements =
      2'000'000;  // bucket size, at least one granule per rank; below MPI's limit of 2^31
  Overlap overlap = Overlap::kNo;
  DType dtype =
      DType::kF32;  // of what is sent; 16-bit types round the local gradients, sums stay fp32
};

// What is done with a sum.
enum class SumInto : uint8_t { kReplace, kAdd };

class ReductionBuckets {
 public:
  // slice_elements: reduced between two flushes, of one rank's slices.
  ReductionBuckets(Communicator& world, Backend& ops, const ReductionOptions& options, SumInto into,
                   int64_t slice_elements);
  ~ReductionBuckets();
  ReductionBuckets(const ReductionBuckets&) = delete;
  ReductionBuckets& operator=(const ReductionBuckets&) = delete;

  // Collective. contributions (N*n): this rank's local gradients of the slices of all N ranks;
  // copied, so they may change afterwards. slice (n): of this rank, receives the sums later.
  void reduce(Tensor slice, Tensor contributions);
  // Collective: starts the exchange of a bucket that is not full yet.
  void flush();
  // Waits until all sums are in their slices.
  void wait();

  static int64_t bytes(int ranks, const ReductionOptions& options, int64_t slice_elements);

 private:
  struct Piece {
    Tensor slice;
    int64_t begin = 0;  // within each rank's part of the bucket
  };
  struct Bucket {
    Tensor sent, received;  // (N, capacity)
    std::vector<Piece> pieces;
    int64_t filled = 0;  // of each rank's part
    bool started = false;
    Communicator::Parts parts;
    Communicator::Pending pending;
  };
  static int64_t capacity(int ranks, const ReductionOptions& options, int64_t slice_elements);
  static Bucket allocate_bucket(Arena& memory, int ranks, const ReductionOptions& options,
                                int64_t capacity);
  void pack(const Tensor& slice, const Tensor& contributions, int64_t begin, int64_t count);
  void start();
  void finish(Bucket& bucket);

  Communicator& world_;
  Backend& ops_;
  SumInto into_;
  Overlap overlap_;
  int64_t capacity_;
  std::unique_ptr<Arena> memory_;
  std::vector<Bucket> buckets_;
  size_t filling_ = 0;  // index in buckets_; cyclically from there, the oldest first
};

}  // namespace facet
