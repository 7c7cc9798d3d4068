// Splices text and image embeddings. Row n of x (N,D) is row s of embed (V,D) if s = source[n] >=
// 0, else row -1-s of image (M,D); source (N) int32, x overwritten. Backward adds rows of dx to
// dembed (V,D, fp32) and overwrites the rows of dimage (M,D).
//
// Forward and dimage copy packs, as each image row occurs once. dembed has a block per row of dx
// and 2048 columns: those of a token's first row add all rows of that token in order, without
// atomics; the others exit. They keep their sums in registers and load several rows at once, as a
// token may occur thousands of times.
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

constexpr int kScanThreads = 256;                           // rows that a block scans at a time
constexpr int kGradientPack = gpu::Pack<gpu::bf16>::kSize;  // whole packs of both types
constexpr int64_t kGradientCols = kScanThreads * kGradientPack;
constexpr int kRowsAtOnce = 8;

// The places of the rows with this token in [base, base + kScanThreads), in order; all threads call
// it. Returns how many they are.
GPU_DEVICE int find_rows(int (&found)[kScanThreads], int32_t token, const int32_t* source_N,
                         int64_t base, int64_t rows) {
  constexpr int kWarps = kScanThreads / gpu::kWarpSize;
  GPU_SHARED(unsigned, matches_W, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % gpu::kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / gpu::kWarpSize;
  const int64_t mine = base + threadIdx.x;
  const bool is_match = mine < rows && source_N[mine] == token;
  if (!__syncthreads_or(is_match)) return 0;
  const unsigned matches = __ballot_sync(gpu::kFullWarp, is_match);
  if (lane == 0) matches_W[warp] = matches;
  __syncthreads();
  int before = 0, count = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = count;
    count += __popc(matches_W[w]);
  }
  if (is_match)
    found[before + __popc(matches & ((1u << lane) - 1))] = static_cast<int>(threadIdx.x);
  __syncthreads();
  return count;
}

// Adds the rows base + found[0 .. count) of dx to the sums, in order.
template <typename T>
GPU_DEVICE void add_rows(float (&sum)[kGradientPack], const Rows<const T>& dx_ND, int64_t base,
                         const int* found, int count, int64_t c, int64_t cols, RowAccess access) {
  for (int i = 0; i < count; i += kRowsAtOnce) {
    float dx[kRowsAtOnce][kGradientPack];
#pragma unroll
    for (int j = 0; j < kRowsAtOnce; ++j)
      if (i + j < count) load_floats(dx[j], dx_ND.row(base + found[i + j]), c, cols, access);
#pragma unroll
    for (int j = 0; j < kRowsAtOnce; ++j)
      if (i + j < count) {
#pragma unroll
        for (int n = 0; n < kGradientPack; ++n) sum[n] += dx[j][n];
      }
  }
}

template <typename T>
__global__ void __launch_bounds__(kScanThreads)
    embed_gradient_kernel(Rows<float> dembed_VD, Rows<const T> dx_ND, const int32_t* source_N,
                          int64_t rows, int64_t cols, RowAccess access) {
  GPU_SHARED(int, found, [kScanThreads]);
  const int64_t first = blockIdx.x;
  const int32_t token = source_N[first];
  if (token < 0) return;
  for (int64_t base = 0; base < first; base += kRowsAtOnce * kScanThreads) {
    bool seen = false;
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t here = base + i * kScanThreads + threadIdx.x;
      seen |= here < first && source_N[here] == token;
    }
    if (__syncthreads_or(seen)) return;
  }
  const int64_t c = blockIdx.y * kGradientCols + threadIdx.x * kGradientPack;
  float sum[kGradientPack];
  load_floats(sum, dembed_VD.row(token), c, cols, access);
  for (int64_t base = first; base < rows; base += kScanThreads) {
    const int count = find_rows(found, token, source_N, base, rows);
    add_rows(sum, dx_ND, base, found, count, c, cols, access);
  }
  store_floats(dembed_VD.row(token), sum, c, cols, access);
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

void splice_backward(Operand dembed_VD, Operand dimage_MD, Operand dx_ND, const int32_t* source_N,
                     cudaStream_t stream) {
  if (dx_ND.rows * dx_ND.cols == 0) return;
  if (dimage_MD.data && size_of(dx_ND.dtype) == sizeof(uint32_t))
    image_gradient<uint32_t>(dimage_MD, dx_ND, source_N, stream);
  if (dimage_MD.data && size_of(dx_ND.dtype) == sizeof(uint16_t))
    image_gradient<uint16_t>(dimage_MD, dx_ND, source_N, stream);
  if (!dembed_VD.data) return;
  with_type(dx_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t parts = (dx_ND.cols + kGradientCols - 1) / kGradientCols;
    gpu::launch(stream,
                {.grid = dim3(static_cast<unsigned>(dx_ND.rows), static_cast<unsigned>(parts)),
                 .block = kScanThreads},
                embed_gradient_kernel<T>, rows_of<float>(dembed_VD), rows_of<const T>(dx_ND),
                source_N, dx_ND.rows, dx_ND.cols, row_access({dembed_VD, dx_ND}));
  });
}

}  // namespace facet::cuda
