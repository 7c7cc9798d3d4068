// Plain operators on matrices whose rows may have gaps: fill, copy (moves words of equal types,
// converts between fp32, bf16 and fp16 with one rounding), add_accumulate (y += x in fp32, rounded
// once) and sum (of all elements, in double).
//
// Element-wise over packs. sum takes two launches: at most kSumParts blocks compute one part each,
// one block adds the parts in a fixed order.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Elements that a thread processes at a time if two types are involved: a pack of the narrower one.
constexpr int kNarrowPack = gpu::Pack<gpu::bf16>::kSize;

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    fill_kernel(Rows<T> x_ND, float value, int64_t rows, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float v[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = value;
    store_floats(x_ND.row(r), v, c, cols, access);
  });
}

// Moves words of any element type.
template <typename Word>
__global__ void __launch_bounds__(kElementThreads)
    move_kernel(Rows<Word> y_ND, Rows<const Word> x_ND, int64_t rows, int64_t cols,
                RowAccess access) {
  constexpr int kPack = kPackOf<Word>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const Word* from = x_ND.row(r) + c;
    Word* to = y_ND.row(r) + c;
    if (access == RowAccess::kPacked && c + kPack <= cols)
      return gpu::store_pack_global(to, gpu::load_pack(from));
    for (int i = 0; i < kPack && c + i < cols; ++i) to[i] = from[i];
  });
}

template <typename To, typename From>
__global__ void __launch_bounds__(kElementThreads)
    convert_kernel(Rows<To> y_ND, Rows<const From> x_ND, int64_t rows, int64_t cols,
                   RowAccess access) {
  for_packs<kNarrowPack>(rows, cols, [=](int64_t r, int64_t c) {
    float v[kNarrowPack];
    load_floats(v, x_ND.row(r), c, cols, access);
    store_floats(y_ND.row(r), v, c, cols, access);
  });
}

template <typename To, typename From>
__global__ void __launch_bounds__(kElementThreads)
    add_accumulate_kernel(Rows<To> y_ND, Rows<const From> x_ND, int64_t rows, int64_t cols,
                          RowAccess access) {
  for_packs<kNarrowPack>(rows, cols, [=](int64_t r, int64_t c) {
    float sum[kNarrowPack], x[kNarrowPack];
    load_floats(sum, y_ND.row(r), c, cols, access);
    load_floats(x, x_ND.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kNarrowPack; ++i) sum[i] += x[i];
    store_floats(y_ND.row(r), sum, c, cols, access);
  });
}

// ---- the sum of all elements: a part per block, then the parts in order

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    sum_parts_kernel(double* parts, Rows<const T> x_ND, int64_t rows, int64_t cols,
                     RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  double sum = 0;
  for_packs<kPack>(rows, cols, [&](int64_t r, int64_t c) {
    float x[kPack];
    load_floats(x, x_ND.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += static_cast<double>(x[i]);
  });
  sum = gpu::block_sum<kElementThreads>(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kElementThreads)
    sum_total_kernel(double* result, const double* parts, int count) {
  static_assert(kSumParts <= kElementThreads);
  const int part = static_cast<int>(threadIdx.x);
  const double total = gpu::block_sum<kElementThreads>(part < count ? parts[part] : 0.0);
  if (part == 0) *result = total;
}

template <typename Word>
void move(const Operand& y_ND, const Operand& x_ND, cudaStream_t stream) {
  const unsigned blocks = element_blocks(packs_of(y_ND.rows, y_ND.cols, kPackOf<Word>));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, move_kernel<Word>,
              rows_of<Word>(y_ND), rows_of<const Word>(x_ND), y_ND.rows, y_ND.cols,
              row_access({y_ND, x_ND}));
}

// Calls body(To(), From()) for the two types.
template <typename Body>
void with_types(const Operand& y, const Operand& x, const Body& body) {
  with_type(y.dtype, [&](auto to) { with_type(x.dtype, [&](auto from) { body(to, from); }); });
}

}  // namespace

void fill(Operand x_ND, float value, cudaStream_t stream) {
  if (x_ND.rows * x_ND.cols == 0) return;
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(x_ND.rows, x_ND.cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, fill_kernel<T>,
                rows_of<T>(x_ND), value, x_ND.rows, x_ND.cols, row_access({x_ND}));
  });
}

void copy(Operand y_ND, Operand x_ND, cudaStream_t stream) {
  if (y_ND.rows * y_ND.cols == 0) return;
  if (y_ND.dtype == x_ND.dtype && size_of(x_ND.dtype) == sizeof(uint32_t))
    return move<uint32_t>(y_ND, x_ND, stream);
  if (y_ND.dtype == x_ND.dtype && size_of(x_ND.dtype) == sizeof(uint16_t))
    return move<uint16_t>(y_ND, x_ND, stream);
  with_types(y_ND, x_ND, [&](auto to, auto from) {
    using To = decltype(to);
    using From = decltype(from);
    if constexpr (!std::is_same_v<To, From>) {  // equal types were moved above
      const unsigned blocks = element_blocks(packs_of(y_ND.rows, y_ND.cols, kNarrowPack));
      gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, convert_kernel<To, From>,
                  rows_of<To>(y_ND), rows_of<const From>(x_ND), y_ND.rows, y_ND.cols,
                  row_access({y_ND, x_ND}));
    }
  });
}

void add_accumulate(Operand y_ND, Operand x_ND, cudaStream_t stream) {
  if (y_ND.rows * y_ND.cols == 0) return;
  with_types(y_ND, x_ND, [&](auto to, auto from) {
    using To = decltype(to);
    using From = decltype(from);
    const unsigned blocks = element_blocks(packs_of(y_ND.rows, y_ND.cols, kNarrowPack));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, add_accumulate_kernel<To, From>,
                rows_of<To>(y_ND), rows_of<const From>(x_ND), y_ND.rows, y_ND.cols,
                row_access({y_ND, x_ND}));
  });
}

void sum(double* result, double* parts, Operand x_ND, cudaStream_t stream) {
  int count = 0;
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned wanted = element_blocks(packs_of(x_ND.rows, x_ND.cols, kPackOf<T>));
    count = static_cast<int>(wanted < kSumParts ? wanted : kSumParts);
    if (count == 0) return;
    gpu::launch(stream, {.grid = static_cast<unsigned>(count), .block = kElementThreads},
                sum_parts_kernel<T>, parts, rows_of<const T>(x_ND), x_ND.rows, x_ND.cols,
                row_access({x_ND}));
  });
  gpu::launch(stream, {.grid = 1, .block = kElementThreads}, sum_total_kernel, result, parts,
              count);
}

}  // namespace facet::cuda
