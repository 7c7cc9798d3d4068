// Communicator: the collectives of the program, on Tensors. Over MPI, on host memory.
//
// Sums add the ranks' contributions in rank order (rank 0 first), so the result does not depend on
// timing or on the library's choice of algorithm. What a rank sends is counted.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/position.h"
#include "device/tensor.h"

namespace facet {

class Communicator {
 public:
  // Takes a duplicate of `comm`, so that its messages never meet anybody else's.
  explicit Communicator(MPI_Comm comm);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // For libraries that talk MPI themselves (parallel HDF5).
  MPI_Comm handle() const { return comm_; }

  // x (dense fp32) = sum over ranks of x, added in rank order; the same bits on every rank.
  void all_reduce_sum(Tensor x);
  // The two halves of it. whole (N*n), slice (n) of dense fp32: rank r's slice becomes the sum of
  // all ranks' elements [r*n, (r+1)*n), added in rank order. The slice may be this rank's part of
  // `whole`; the rest of it is left as it was.
  void reduce_scatter_sum(Tensor slice, Tensor whole);
  // whole = the slices of all ranks one behind the other, fp32 or 16 bits as they are. The slice
  // may be its place in `whole`.
  void all_gather(Tensor whole, Tensor slice);
  // Of a tensor that all ranks are about to have whole, rank r has counts[r] elements from
  // offsets[r] on.
  struct Parts {
    std::vector<int> counts, offsets;
    int64_t elements() const;
  };
  // whole = the parts of all ranks, of which `part` is this rank's. In two halves: what is computed
  // between them goes on beside it. All three arguments stay untouched until it has been waited
  // for. Every rank starts the same collectives in the same order.
  class Pending {
   private:
    friend class Communicator;
    MPI_Request request_ = MPI_REQUEST_NULL;
    BegunCollective collective_;
  };
  [[nodiscard]] Pending start_all_gather(Tensor whole, Tensor part, const Parts& parts);
  void wait(Pending& pending);
  // Small host vectors of equal length, summed in rank order.
  void all_reduce_sum(std::vector<double>& values);
  double sum(double value);
  int64_t sum(int64_t value);
  int64_t max(int64_t value);
  int64_t bit_or(int64_t bits);
  // values of all ranks one behind the other, (size * count); every rank gives the same count.
  std::vector<double> all_gather(const std::vector<double>& values);
  // Strings of all ranks, on every rank.
  std::vector<std::string> all_gather(const std::string& text);

  void broadcast(Tensor x, int root);
  void broadcast(std::string& text, int root);
  int64_t broadcast(int64_t value, int root);  // the root's value

  int64_t elements_sent() const {
    return elements_sent_;
  }  // by this rank's tensor collectives so far

 private:
  void check_slice(const Tensor& whole, const Tensor& slice) const;
  void add_in_rank_order(float* sum, int64_t count) const;

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int64_t elements_sent_ = 0;
  std::vector<float> exchange_;  // what the other ranks sent of this rank's slice
};

}  // namespace facet
