// Splices text and image embeddings. Row n of x (N,D) is row s of embed (V,D) if s = source[n] >=
// 0, else row -1-s of image (M,D); source (N) int32, x overwritten. Backward adds rows of dx to
// dembed (V,D, fp32) and overwrites the rows of dimage (M,D).
//
// Forward and dimage copy packs, as each image row occurs once. dembed takes three launches without
// atomics. The rows of dx are sorted by token. Then a block adds up to kSpliceSegment rows of one
// token and 2048 columns in their order; of a token with more rows, of which there may be
// thousands, the sums of its segments are left in the workspace, and the third launch adds them, in
// their order too. A token with at most a segment of rows gets the bits of one sum over them.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Copies one pack of words.
template <typename Word>
GPU_DEVICE void move_pack(Word* to, const Word* from, int64_t c, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<Word>;
  if (access == RowAccess::kPacked && c + kPack <= cols)
    return gpu::store_pack_global(to + c, gpu::load_pack(from + c));
  for (int i = 0; i < kPack && c + i < cols; ++i) to[c + i] = from[c + i];
}

template <typename Word>
__global__ void __launch_bounds__(kElementThreads)
    splice_forward_kernel(Rows<Word> x_ND, Rows<const Word> embed_VD, Rows<const Word> image_MD,
                          const int32_t* source_N, int64_t rows, int64_t cols, RowAccess access) {
  for_packs<kPackOf<Word>>(rows, cols, [=](int64_t r, int64_t c) {
    const int64_t s = source_N[r];
    move_pack(x_ND.row(r), s >= 0 ? embed_VD.row(s) : image_MD.row(-1 - s), c, cols, access);
  });
}

template <typename Word>
__global__ void __launch_bounds__(kElementThreads)
    image_gradient_kernel(Rows<Word> dimage_MD, Rows<const Word> dx_ND, const int32_t* source_N,
                          int64_t rows, int64_t cols, RowAccess access) {
  for_packs<kPackOf<Word>>(rows, cols, [=](int64_t r, int64_t c) {
    const int64_t s = source_N[r];
    if (s < 0) move_pack(dimage_MD.row(-1 - s), dx_ND.row(r), c, cols, access);
  });
}

// ---- the gradient of embed

constexpr int kSumThreads = 256;
constexpr int kGradientPack = gpu::Pack<gpu::bf16>::kSize;  // whole packs of both types
constexpr int64_t kGradientCols = kSumThreads * kGradientPack;
constexpr int kRowsAtOnce = 8;
static_assert(kSpliceSegment <= kSumThreads && kSpliceSegment % kRowsAtOnce == 0);

// One of the rows of dx, which are sorted by token, those of a token in their order.
struct TokenRow {
  int32_t row, token;
  int32_t rank, count;  // its place among the rows of its token, and how many these are

  GPU_DEVICE bool begins_segment() const { return token >= 0 && rank % kSpliceSegment == 0; }
  GPU_DEVICE int rows_of_segment() const { return min(kSpliceSegment, count - rank); }
  GPU_DEVICE bool is_frequent() const { return count > kSpliceSegment; }
};

// Where the segment that begins at a place of the sorted rows leaves its sum: row 2i or 2i+1 if the
// place is in the i-th kSpliceSegment of them. A whole segment reaches beyond that, and after the
// rest of a frequent token comes no other rest before a whole segment.
GPU_DEVICE int64_t sum_of_segment(int64_t place, int rows_of_segment) {
  return 2 * (place / kSpliceSegment) + (rows_of_segment < kSpliceSegment ? 1 : 0);
}
int64_t most_segments(int64_t rows) { return 2 * ((rows + kSpliceSegment - 1) / kSpliceSegment); }

int64_t stride_of_sums(int64_t cols) {
  return (cols + kGradientPack - 1) / kGradientPack * kGradientPack;
}

// The workspace: sums of segments, then the sorted rows.
struct TokenSums {
  Rows<float> sums_SD;
  TokenRow* sorted_N;
};
TokenSums token_sums(void* workspace, int64_t rows, int64_t cols) {
  auto* sums = static_cast<float*>(workspace);
  const int64_t stride = stride_of_sums(cols);
  return {{sums, stride}, reinterpret_cast<TokenRow*>(sums + most_segments(rows) * stride)};
}

// A warp per row counts the rows before it in the order of tokens.
__global__ void __launch_bounds__(kSumThreads)
    sort_by_token_kernel(TokenRow* sorted_N, const int32_t* source_N, int64_t rows) {
  constexpr int kWarps = kSumThreads / gpu::kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % gpu::kWarpSize;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / gpu::kWarpSize;
  if (row >= rows) return;
  const int32_t token = source_N[row];
  int32_t smaller = 0, rank = 0, count = 0;
#pragma unroll 4
  for (int64_t other = lane; other < rows; other += gpu::kWarpSize) {
    const int32_t its = source_N[other];
    smaller += its < token;
    count += its == token;
    rank += its == token && other < row;
  }
  smaller = gpu::warp_sum(smaller);
  count = gpu::warp_sum(count);
  rank = gpu::warp_sum(rank);
  if (lane == 0) sorted_N[smaller + rank] = {static_cast<int32_t>(row), token, rank, count};
}

// Adds rows [0, count) to the sums, in order; several are loaded at once.
template <typename RowAt>
GPU_DEVICE void add_rows(float (&sum)[kGradientPack], int count, int64_t c, int64_t cols,
                         RowAccess access, const RowAt& row_at) {
  for (int i = 0; i < count; i += kRowsAtOnce) {
    float x[kRowsAtOnce][kGradientPack];
#pragma unroll
    for (int j = 0; j < kRowsAtOnce; ++j)
      if (i + j < count) load_floats(x[j], row_at(i + j), c, cols, access);
#pragma unroll
    for (int j = 0; j < kRowsAtOnce; ++j)
      if (i + j < count) {
#pragma unroll
        for (int n = 0; n < kGradientPack; ++n) sum[n] += x[j][n];
      }
  }
}

GPU_DEVICE int64_t gradient_column() {
  return blockIdx.y * kGradientCols + threadIdx.x * kGradientPack;
}

// A block per sorted row: those of a segment's first row add its rows, to dembed if they are all of
// the token.
template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    embed_gradient_kernel(Rows<float> dembed_VD, TokenSums work, Rows<const T> dx_ND, int64_t cols,
                          RowAccess access) {
  GPU_SHARED(int32_t, rows, [kSpliceSegment]);
  const int64_t place = blockIdx.x;
  const TokenRow first = work.sorted_N[place];
  if (!first.begins_segment()) return;
  const int count = first.rows_of_segment(), thread = static_cast<int>(threadIdx.x);
  if (thread < count) rows[thread] = work.sorted_N[place + thread].row;
  __syncthreads();
  const int64_t c = gradient_column();
  float sum[kGradientPack] = {};
  if (!first.is_frequent()) load_floats(sum, dembed_VD.row(first.token), c, cols, access);
  add_rows(sum, count, c, cols, access, [&](int i) { return dx_ND.row(rows[i]); });
  float* to = first.is_frequent() ? work.sums_SD.row(sum_of_segment(place, count))
                                  : dembed_VD.row(first.token);
  store_floats(to, sum, c, cols, access);
}

// A block per kSpliceSegment sorted rows, among which at most one frequent token begins: adds the
// sums of its segments to dembed.
__global__ void __launch_bounds__(kSumThreads)
    frequent_gradient_kernel(Rows<float> dembed_VD, TokenSums work, int64_t rows, int64_t cols,
                             RowAccess access) {
  GPU_SHARED(int32_t, begin, );
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t mine = int64_t{blockIdx.x} * kSpliceSegment + thread;
  bool begins = false;
  if (thread < kSpliceSegment && mine < rows) {
    const TokenRow row = work.sorted_N[mine];
    begins = row.rank == 0 && row.is_frequent();
  }
  if (begins) begin = static_cast<int32_t>(mine);
  if (!__syncthreads_or(begins)) return;
  const TokenRow first = work.sorted_N[begin];
  const int64_t c = gradient_column();
  float sum[kGradientPack];
  load_floats(sum, dembed_VD.row(first.token), c, cols, access);
  const int segments = (first.count + kSpliceSegment - 1) / kSpliceSegment;
  add_rows(sum, segments, c, cols, access, [&](int i) -> const float* {
    const int before = i * kSpliceSegment;
    return work.sums_SD.row(
        sum_of_segment(begin + before, min(kSpliceSegment, first.count - before)));
  });
  store_floats(dembed_VD.row(first.token), sum, c, cols, access);
}

template <typename T>
void embed_gradient(const Operand& dembed, const Operand& dx, const int32_t* source_N,
                    void* workspace, cudaStream_t stream) {
  constexpr int kWarps = kSumThreads / gpu::kWarpSize;
  const int64_t rows = dx.rows, cols = dx.cols;
  const auto parts = static_cast<unsigned>((cols + kGradientCols - 1) / kGradientCols);
  const auto blocks = [&](int64_t rows_of_block) {
    return static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block);
  };
  const TokenSums work = token_sums(workspace, rows, cols);
  gpu::launch(stream, {.grid = blocks(kWarps), .block = kSumThreads}, sort_by_token_kernel,
              work.sorted_N, source_N, rows);
  gpu::launch(stream, {.grid = dim3(blocks(1), parts), .block = kSumThreads},
              embed_gradient_kernel<T>, rows_of<float>(dembed), work, rows_of<const T>(dx), cols,
              row_access({dembed, dx}));
  if (rows <= kSpliceSegment) return;
  gpu::launch(stream, {.grid = dim3(blocks(kSpliceSegment), parts), .block = kSumThreads},
              frequent_gradient_kernel, rows_of<float>(dembed), work, rows, cols,
              row_access({dembed}));
}

template <typename Word>
void forward(const Operand& x, const Operand& embed, const Operand& image, const int32_t* source_N,
             cudaStream_t stream) {
  const unsigned blocks = element_blocks(packs_of(x.rows, x.cols, kPackOf<Word>));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, splice_forward_kernel<Word>,
              rows_of<Word>(x), rows_of<const Word>(embed), rows_of<const Word>(image), source_N,
              x.rows, x.cols, row_access({x, embed, image}));
}

template <typename Word>
void image_gradient(const Operand& dimage, const Operand& dx, const int32_t* source_N,
                    cudaStream_t stream) {
  const unsigned blocks = element_blocks(packs_of(dx.rows, dx.cols, kPackOf<Word>));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, image_gradient_kernel<Word>,
              rows_of<Word>(dimage), rows_of<const Word>(dx), source_N, dx.rows, dx.cols,
              row_access({dimage, dx}));
}

}  // namespace

void splice_forward(Operand x_ND, Operand embed_VD, Operand image_MD, const int32_t* source_N,
                    cudaStream_t stream) {
  if (x_ND.rows * x_ND.cols == 0) return;
  if (size_of(x_ND.dtype) == sizeof(uint32_t))
    forward<uint32_t>(x_ND, embed_VD, image_MD, source_N, stream);
  else
    forward<uint16_t>(x_ND, embed_VD, image_MD, source_N, stream);
}

int64_t splice_workspace_bytes(int64_t rows, int64_t cols) {
  return most_segments(rows) * stride_of_sums(cols) * static_cast<int64_t>(sizeof(float)) +
         rows * static_cast<int64_t>(sizeof(TokenRow));
}

void splice_backward(Operand dembed_VD, Operand dimage_MD, Operand dx_ND, const int32_t* source_N,
                     void* workspace, cudaStream_t stream) {
  if (dx_ND.rows * dx_ND.cols == 0) return;
  if (dimage_MD.data && size_of(dx_ND.dtype) == sizeof(uint32_t))
    image_gradient<uint32_t>(dimage_MD, dx_ND, source_N, stream);
  if (dimage_MD.data && size_of(dx_ND.dtype) == sizeof(uint16_t))
    image_gradient<uint16_t>(dimage_MD, dx_ND, source_N, stream);
  if (!dembed_VD.data) return;
  with_type(dx_ND.dtype, [&](auto zero) {
    embed_gradient<decltype(zero)>(dembed_VD, dx_ND, source_N, workspace, stream);
  });
}

}  // namespace facet::cuda
