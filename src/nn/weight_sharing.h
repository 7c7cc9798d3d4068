// Tensor parallelism (Shoeybi et al., 2019, "Megatron-LM"): the ranks of a group hold the weights
// of a decoder together and run the same rows through them. A linear layer whose outputs are shared
// gives each rank some columns; one whose inputs are shared gives each a part of every sum, and
// after the group has added these up all its ranks have the same bits.
#pragma once

#include <cstdint>

#include "device/tensor.h"
#include "nn/param_table.h"

namespace facet {

struct Context;

// A rank's places of something shared, or all of them.
struct Share {
  Share(int64_t all) : count(all), whole(all) {}
  Share(int64_t first, int64_t number, int64_t all) : begin(first), count(number), whole(all) {}

  bool is_part() const { return count < whole; }
  // Places that are `width` wide each.
  Share times(int64_t width) const { return {begin * width, count * width, whole * width}; }
  ParamPart along(size_t axis) const {
    return is_part() ? ParamPart{axis, begin, whole} : ParamPart{};
  }

  int64_t begin = 0, count = 0, whole = 0;
};

// Which of a group's ranks this is.
struct GroupPlace {
  int64_t rank = 0, size = 1;

  // Of n, a multiple of the size.
  Share even(int64_t n) const { return {rank * (n / size), n / size, n}; }
  // Of query heads even(heads), and of key/value heads those that these attend to: where there are
  // fewer than ranks, several ranks have the same.
  Share kv_heads(int64_t n) const { return n >= size ? even(n) : Share{rank * n / size, 1, n}; }
  // Of any n; where there is enough of it the shares begin on multiples of 8.
  Share about_even(int64_t n) const;
};

// The other ranks. Collective; every rank of the group runs the same layers on as many rows.
class WeightGroup {
 public:
  virtual ~WeightGroup() = default;
  // whole = the equally long slices of all ranks, in their order; `slice` may be its place there.
  virtual void all_gather(Tensor whole, Tensor slice) = 0;
  // Slice r of `sent` goes to rank r, slice r of `received` comes from rank r.
  virtual void exchange(Tensor received, Tensor sent) = 0;
};

// A sum to which each rank computes a part.
class SharedSum {
 public:
  // In the arena, until the caller releases it.
  SharedSum(Context& ctx, GroupPlace place, int64_t rows, int64_t columns);

  Tensor part() const { return part_; }  // (rows,columns), dense: to be computed
  // y (rows,columns), dense, = the parts of all ranks in their order, then the residual, added in
  // fp32 and rounded once. The residual (rows,columns), dense or absent, may be y.
  void add_up(Tensor y, Tensor residual);

 private:
  bool is_exchanged() const;
  void add_up_gathered(Tensor y, Tensor residual);
  void add_up_exchanged(Tensor y, Tensor residual);

  Context& ctx_;
  GroupPlace place_;
  int64_t rows_, columns_;
  Tensor terms_;  // (size + 1, ...): of the ranks, and the residual
  Tensor part_;
};

// A matrix of which each rank computes some columns, GroupPlace::about_even(columns).
class SharedColumns {
 public:
  // In the arena, until the caller releases it.
  SharedColumns(Context& ctx, GroupPlace place, int64_t rows, int64_t columns);

  Tensor mine() const;  // (rows,count): to be computed
  void join(Tensor y);  // y (rows,columns)

 private:
  Tensor of_rank(int64_t rank) const;

  Context& ctx_;
  GroupPlace place_;
  int64_t rows_, columns_;
  Tensor slices_;  // (size*rows, the widest share, whose rows begin on 16-byte boundaries)
};

}  // namespace facet
