// Splices text and image embeddings. Row n of x (N,D) is row s of embed (V,D) if s = source[n] >=
// 0, else row -1-s of image (M,D); source (N) int32, x overwritten. Backward adds rows of dx to
// dembed (V,D, fp32) and overwrites the rows of dimage (M,D).
//
// Forward and dimage copy packs, as each image row occurs once. dembed has one block per row of dx:
// the block of a token's first row adds all rows of that token in order, without atomics; the
// others exit.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Copies one pack of words.
template <typename Word>
GPU_DEVICE void move_pack(Word* to, const Word* from, int64_t c, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<Word>;
  if (access == RowAccess::kPacked && c + kPack <= cols)
    return gpu::store_pack(to + c, gpu::load_pack(from + c));
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

constexpr int kScanThreads = 256;  // rows that a block scans at a time

// One block per row of dx. The block of a token's first row adds all rows of the token, in order;
// the others exit.
template <typename T>
__global__ void __launch_bounds__(kScanThreads)
    embed_gradient_kernel(Rows<float> dembed_VD, Rows<const T> dx_ND, const int32_t* source_N,
                          int64_t rows, int64_t cols, RowAccess access) {
  constexpr int kPack = gpu::Pack<gpu::bf16>::kSize;  // whole packs of both types
  GPU_SHARED(unsigned, matches_W, [kScanThreads / gpu::kWarpSize]);
  const int64_t first = blockIdx.x;
  const int32_t token = source_N[first];
  if (token < 0) return;
  int seen = 0;
  for (int64_t r = threadIdx.x; r < first; r += kScanThreads) seen |= source_N[r] == token;
  if (__syncthreads_or(seen)) return;
  float* total_D = dembed_VD.row(token);
  for (int64_t base = first; base < rows; base += kScanThreads) {
    const int64_t mine = base + threadIdx.x;
    const unsigned matches = __ballot_sync(gpu::kFullWarp, mine < rows && source_N[mine] == token);
    if (threadIdx.x % gpu::kWarpSize == 0) matches_W[threadIdx.x / gpu::kWarpSize] = matches;
    __syncthreads();
    for (int w = 0; w < kScanThreads / gpu::kWarpSize; ++w)
      for (unsigned left = matches_W[w]; left != 0; left &= left - 1) {
        const T* dx_D = dx_ND.row(base + w * gpu::kWarpSize + __ffs(static_cast<int>(left)) - 1);
        for (int64_t c = int64_t{threadIdx.x} * kPack; c < cols; c += kScanThreads * kPack) {
          float sum[kPack], dx[kPack];
          load_floats(sum, total_D, c, cols, access);
          load_floats(dx, dx_D, c, cols, access);
#pragma unroll
          for (int i = 0; i < kPack; ++i) sum[i] += dx[i];
          store_floats(total_D, sum, c, cols, access);
        }
      }
    __syncthreads();  // all threads have read the matches
  }
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
    gpu::launch(stream, {.grid = static_cast<unsigned>(dx_ND.rows), .block = kScanThreads},
                embed_gradient_kernel<T>, rows_of<float>(dembed_VD), rows_of<const T>(dx_ND),
                source_N, dx_ND.rows, dx_ND.cols, row_access({dembed_VD, dx_ND}));
  });
}

}  // namespace facet::cuda
