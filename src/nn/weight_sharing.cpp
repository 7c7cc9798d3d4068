#include "nn/weight_sharing.h"

#include <algorithm>

#include "base/check.h"
#include "nn/context.h"

namespace facet {
namespace {

constexpr int64_t kPack = 8;  // 16-bit elements of 16 bytes

// A model that is measured has no group, and no values either.
WeightGroup* group_of(const Context& ctx) {
  ASSERT(ctx.group != nullptr || ctx.arena.measuring(),
         "a model whose weights are shared runs without the group of ranks that share them");
  return ctx.group;
}

}  // namespace

Share GroupPlace::about_even(int64_t n) const {
  const int64_t pack = n >= kPack * size ? kPack : 1;
  const auto begin_of = [&](int64_t r) { return r == size ? n : n / pack * r / size * pack; };
  return {begin_of(rank), begin_of(rank + 1) - begin_of(rank), n};
}

// ---- sums

// Gathering sends each part to every rank, in one go; that suits the few rows of a generated token.
// Of many rows each rank adds up a slice of all, and the sums are gathered: less is sent.
bool SharedSum::is_exchanged() const {
  constexpr int64_t kManyRows = 32;
  return place_.size > 2 && rows_ >= kManyRows && rows_ * columns_ % place_.size == 0;
}

SharedSum::SharedSum(Context& ctx, GroupPlace place, int64_t rows, int64_t columns)
    : ctx_(ctx), place_(place), rows_(rows), columns_(columns) {
  const int64_t elements = is_exchanged() ? rows * columns / place.size : rows * columns;
  terms_ = ctx.activation({place.size + 1, elements});
  part_ = is_exchanged() ? ctx.activation({rows, columns})
                         : terms_.row_block(place.rank, 1).view({rows, columns});
}

void SharedSum::add_up(Tensor y, Tensor residual) {
  if (rows_ == 0) return;
  if (is_exchanged()) return add_up_exchanged(y, residual);
  add_up_gathered(y, residual);
}

void SharedSum::add_up_gathered(Tensor y, Tensor residual) {
  if (WeightGroup* const group = group_of(ctx_))
    group->all_gather(terms_.row_block(0, place_.size), part_);
  const int64_t terms = place_.size + (residual.defined() ? 1 : 0);
  if (residual.defined())
    ctx_.ops.copy(terms_.row_block(place_.size, 1).view({rows_, columns_}), residual);
  ctx_.ops.repeat_rows_backward(
      y, terms_.view({(place_.size + 1) * rows_, columns_}).row_block(0, terms * rows_), terms);
}

void SharedSum::add_up_exchanged(Tensor y, Tensor residual) {
  WeightGroup* const group = group_of(ctx_);
  const int64_t elements = rows_ * columns_ / place_.size;
  if (group != nullptr) group->exchange(terms_.row_block(0, place_.size), part_);
  const auto slice_of = [&](const Tensor& x) {
    return x.view({place_.size, elements}).row_block(place_.rank, 1);
  };
  const int64_t terms = place_.size + (residual.defined() ? 1 : 0);
  if (residual.defined()) ctx_.ops.copy(terms_.row_block(place_.size, 1), slice_of(residual));
  ctx_.ops.repeat_rows_backward(slice_of(y), terms_.row_block(0, terms), terms);
  if (group != nullptr) group->all_gather(y, slice_of(y));
}

// ---- columns

SharedColumns::SharedColumns(Context& ctx, GroupPlace place, int64_t rows, int64_t columns)
    : ctx_(ctx), place_(place), rows_(rows), columns_(columns) {
  int64_t widest = 0;
  for (int64_t r = 0; r < place.size; ++r)
    widest = std::max(widest, GroupPlace{r, place.size}.about_even(columns).count);
  slices_ = ctx.activation({place.size * rows, (widest + kPack - 1) / kPack * kPack});
}

Tensor SharedColumns::of_rank(int64_t rank) const {
  const Share share = GroupPlace{rank, place_.size}.about_even(columns_);
  return slices_.row_block(rank * rows_, rows_).column_block(0, share.count);
}

Tensor SharedColumns::mine() const { return of_rank(place_.rank); }

void SharedColumns::join(Tensor y) {
  if (rows_ == 0) return;
  if (WeightGroup* const group = group_of(ctx_))
    group->all_gather(slices_, slices_.row_block(place_.rank * rows_, rows_));
  for (int64_t r = 0; r < place_.size; ++r) {
    const Share share = GroupPlace{r, place_.size}.about_even(columns_);
    ctx_.ops.copy(y.column_block(share.begin, share.count), of_rank(r));
  }
}

}  // namespace facet
