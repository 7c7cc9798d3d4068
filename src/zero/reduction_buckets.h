// The way of the gradients' contributions between the ranks: they are packed into buckets, a full
// bucket is exchanged as one collective, and every rank adds what arrives of its slices in rank
// order. So the sums have the same bits whatever the buckets' size, and whether a bucket is waited
// for at once or, with Overlap::kYes, while the next one is filled.
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
      2'000'000;  // of contributions, at most, but a granule a rank; below MPI's limit of 2^31
  Overlap overlap = Overlap::kNo;
  DType wire = DType::kF32;  // a 16-bit type: contributions are rounded, their sums are fp32
};

// What becomes of a sum that arrives.
enum class SumInto : uint8_t { kReplace, kAdd };

class ReductionBuckets {
 public:
  // slice_elements: what is reduced between two flushes, of one rank's slices.
  ReductionBuckets(Communicator& world, Backend& ops, const ReductionOptions& options, SumInto into,
                   int64_t slice_elements);
  ~ReductionBuckets();
  ReductionBuckets(const ReductionBuckets&) = delete;
  ReductionBuckets& operator=(const ReductionBuckets&) = delete;

  // Collective. contributions (N*n): this rank's, to the slices of all ranks; they are copied, so
  // they may change afterwards. slice (n): of this rank, gets the sums when they arrive.
  void reduce(Tensor slice, Tensor contributions);
  // Collective: what is in a bucket that isn't full goes on its way too.
  void flush();
  // All sums are there afterwards.
  void wait();

  static int64_t bytes(int ranks, const ReductionOptions& options, int64_t slice_elements);

 private:
  struct Piece {
    Tensor slice;
    int64_t begin = 0;  // in each rank's part of the bucket
  };
  struct Bucket {
    Tensor sent, received;  // (N, capacity)
    std::vector<Piece> pieces;
    int64_t filled = 0;  // of each rank's part
    bool started = false;
    Communicator::Parts parts;
    Communicator::Pending on_its_way;
  };
  static int64_t capacity(int ranks, const ReductionOptions& options, int64_t slice_elements);
  static Bucket take_bucket(Arena& memory, int ranks, const ReductionOptions& options,
                            int64_t capacity);
  void pack(const Tensor& slice, const Tensor& contributions, int64_t begin, int64_t count);
  void start();
  void settle(Bucket& bucket);

  Communicator& world_;
  Backend& ops_;
  SumInto into_;
  Overlap overlap_;
  int64_t capacity_;
  std::unique_ptr<Arena> memory_;
  std::vector<Bucket> buckets_;
  size_t filling_ = 0;  // of buckets_; from there on, round the end, the oldest first
};

}  // namespace facet
