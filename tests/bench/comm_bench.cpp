// Bandwidth of ZeRO's communication, compared with Open MPI's own collectives in the same run: the
// reduction of gradients (buckets, summed in rank order) with MPI_Reduce_scatter_block, the gather
// of values with MPI_Allgather. Checks the sums, then times both in turn and takes the medians.
// usage: mpirun -n N comm_bench [bucket elements]
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "base/check.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "kernels/cpu/backend.h"
#include "zero/reduction_buckets.h"

namespace facet {
namespace {

// Of the slowest rank.
double time_of(Communicator& world, const std::function<void()>& work) {
  const Timer timer;
  work();
  return static_cast<double>(world.max(static_cast<int64_t>(timer.seconds() * 1e9))) * 1e-9;
}

Tensor flat(std::vector<float>& x, int64_t begin, int64_t count) {
  return Tensor(x.data() + begin, {count}, DType::kF32);
}

// What a rank sends of `elements` floats, a second.
double gigabytes(const Communicator& world, int64_t elements, double seconds) {
  const auto sent = static_cast<double>(elements / world.size() * (world.size() - 1) * 4);
  return sent * 1e-9 / seconds;
}

void compare(Communicator& world, const char* what, int64_t elements,
             const std::function<void()>& ours, const std::function<void()>& theirs) {
  double mine = HUGE_VAL, other = HUGE_VAL;
  for (int round = 0; round < 15; ++round) {
    mine = std::min(mine, time_of(world, ours));  // which leaves the ranks in step
    other = std::min(other, time_of(world, theirs));
  }
  if (world.rank() == 0)
    std::printf("%-14s %2d ranks %9.2f MB: %8.3f ms %6.2f GB/s, Open MPI %8.3f ms, ratio %.2f\n",
                what, world.size(), static_cast<double>(elements) * 4e-6, mine * 1e3,
                gigabytes(world, elements, mine), other * 1e3, other / mine);
}

void compare_size(Communicator& world, int64_t elements, int64_t bucket_elements) {
  const int64_t slice = elements / world.size();
  CpuBackend ops(1);
  ReductionBuckets buckets(world, ops, {bucket_elements, Overlap::kYes, DType::kF32},
                           SumInto::kReplace, slice);
  std::vector<float> whole(static_cast<size_t>(elements), static_cast<float>(world.rank() + 1));
  std::vector<float> part(static_cast<size_t>(slice), 0.0f);
  const auto reduce = [&] {
    buckets.reduce(flat(part, 0, slice), flat(whole, 0, elements));
    buckets.wait();
  };
  reduce();
  const auto expected = static_cast<float>(world.size() * (world.size() + 1) / 2);
  for (const float sum : part)
    CHECK(sum == expected, ExitCode::kInternal, "a sum is {}, not {}", sum, expected);
  compare(world, "reduce-scatter", elements, reduce, [&] {
    MPI_Reduce_scatter_block(whole.data(), part.data(), static_cast<int>(slice), MPI_FLOAT, MPI_SUM,
                             MPI_COMM_WORLD);
  });

  Communicator::Parts parts;
  for (int rank = 0; rank < world.size(); ++rank) {
    parts.counts.push_back(static_cast<int>(slice));
    parts.offsets.push_back(static_cast<int>(rank * slice));
  }
  std::fill(part.begin(), part.end(), static_cast<float>(world.rank()));
  const auto gather = [&] {
    Communicator::Pending pending =
        world.start_all_gather(flat(whole, 0, elements), flat(part, 0, slice), parts);
    world.wait(pending);
  };
  gather();
  for (int64_t i = 0; i < elements; ++i)
    CHECK(whole[static_cast<size_t>(i)] == static_cast<float>(i / slice), ExitCode::kInternal,
          "element {} is {}", i, whole[static_cast<size_t>(i)]);
  compare(world, "all-gather", elements, gather, [&] {
    MPI_Allgather(part.data(), static_cast<int>(slice), MPI_FLOAT, whole.data(),
                  static_cast<int>(slice), MPI_FLOAT, MPI_COMM_WORLD);
  });
}

// A millisecond of arithmetic that moves no memory.
double compute() {
  double x = 1;
  for (const Timer timer; timer.seconds() < 1e-3;)
    for (int i = 0; i < 1000; ++i) x = x * 1.0000001 + 1e-9;
  return x;
}

// Seconds until a bucket's sums are there, counted from the end of `milliseconds` of computing that
// began with its start; progress() is called so often on the way.
double left_to_wait(Communicator& world, ReductionBuckets& buckets, std::vector<float>& whole,
                    std::vector<float>& part, int milliseconds, int calls) {
  double best = HUGE_VAL;
  for (int round = 0; round < 15; ++round) {
    world.sum(int64_t{0});
    buckets.reduce(flat(part, 0, static_cast<int64_t>(part.size())),
                   flat(whole, 0, static_cast<int64_t>(whole.size())));
    for (int ms = 0; ms < milliseconds; ++ms) {
      CHECK(compute() > 0, ExitCode::kInternal, "arithmetic fails");
      if (calls > 0 && ms % (milliseconds / calls) == 0) world.progress();
    }
    best = std::min(best, time_of(world, [&] { buckets.wait(); }));
  }
  return best;
}

void show_overlap(Communicator& world, int64_t elements) {
  const int64_t slice = elements / world.size();
  CpuBackend ops(1);
  ReductionBuckets buckets(world, ops, {elements, Overlap::kYes, DType::kF32}, SumInto::kReplace,
                           slice);
  std::vector<float> whole(static_cast<size_t>(elements), 1.0f), part(static_cast<size_t>(slice));
  constexpr int kMilliseconds = 32;
  std::vector<double> left = {left_to_wait(world, buckets, whole, part, 0, 0)};
  for (const int calls : {0, 1, 4, 16, 32})
    left.push_back(left_to_wait(world, buckets, whole, part, kMilliseconds, calls));
  if (world.rank() == 0)
    std::printf(
        "a bucket of %.2f MB, to wait for it at once: %.3f ms; after %d ms of computing "
        "with 0, 1, 4, 16, 32 calls of progress(): %.3f %.3f %.3f %.3f %.3f ms\n",
        static_cast<double>(elements) * 4e-6, left[0] * 1e3, kMilliseconds, left[1] * 1e3,
        left[2] * 1e3, left[3] * 1e3, left[4] * 1e3, left[5] * 1e3);
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  facet::MpiSession session(argc, argv);
  const int64_t bucket = argc > 1 ? std::atoll(argv[1]) : facet::ReductionOptions{}.bucket_elements;
  for (const int64_t elements : {1 << 16, 1 << 19, 1 << 22})
    facet::compare_size(session.world(), elements, bucket);
  for (const int64_t elements : {1 << 18, 1 << 21}) facet::show_overlap(session.world(), elements);
  return 0;
}
