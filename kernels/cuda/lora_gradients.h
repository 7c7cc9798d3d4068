// The gradients of LoRA's factors on tensor cores: dright += x' du and, where lora_slices.h does
// not take the rank, dleft += scale u' dy. One block per 32 or 64 columns of dy or x and as many
// places as a kernel processes at a time, over all rows, in stages that are divided among the
// warps; the sums of the warps are added in order.
#pragma once

#include "kernels/cuda/lora_mma.h"

namespace facet::cuda::lora {

template <typename T>
struct GradientPart {
  Rows<const T> dy_NO, u_Nr, du_Nr;  // du in two halves
  Rows<float> dright_Ir, dleft_rO;   // null data: absent
  int outputs;
  int left_blocks = 0;  // none if dleft is absent
};
template <typename T>
struct GradientPass {
  GradientPart<T> parts[kMostParts] = {};
  Rows<const T> x_NI;
  int rows, inputs, count, rank;
  int right_blocks = 0;  // of all parts; none if every dright is absent
  float scale;
};

constexpr int kGradientRows = kWarps * 16;

// More columns would take more registers than a thread has, more stages more memory.
template <int kPlaces>
constexpr int kGradientCols = kPlaces <= 48 ? 64 : 32;
template <int kPlaces>
constexpr int kGradientStages = kPlaces <= 64 ? 4 : 3;

template <int kPlaces, Factor kFactor>
constexpr int kGradientStage = kGradientRows*(kStride<kGradientCols<kPlaces>> +
                                              kHalves<kFactor> * kStride<kPlaces>);

// Adds the warps' sums to `total`, one warp after the other.
template <int kPlaces, int kCols>
GPU_DEVICE void add_warps(float* total, const float (&sum)[kPlaces / 16][kCols / 8][4]) {
  const int g = lane_of_thread() / 4;
  for (int warp = 0; warp < kWarps; ++warp) {
    if (warp == warp_of_thread()) {
#pragma unroll
      for (int m = 0; m < kPlaces / 16; ++m)
#pragma unroll
        for (int n = 0; n < kCols / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& to = total[(m * 16 + g + i / 2 * 8) * kCols + column_of(n, i)];
            to = warp == 0 ? sum[m][n][i] : to + sum[m][n][i];
          }
    }
    __syncthreads();
  }
}

// The gradient of a factor, += alpha narrow' wide or its transpose, in kCols columns of wide.
template <int kRank, int kCols, Factor kFactor>
GPU_DEVICE void add_gradient(const Rows<float>& dfactor, const float* total, Corner at, Extent size,
                             float alpha) {
  for (int i = static_cast<int>(threadIdx.x); i < kRank * kCols; i += kThreads) {
    constexpr bool kByRank = kFactor == Factor::kRankByWide;
    const int r = kByRank ? i / kCols : i % kRank, w = kByRank ? i % kCols : i / kRank;
    if (at.row + r >= size.rows || at.col + w >= size.cols) continue;
    float* to =
        kByRank ? dfactor.row(at.row + r) + at.col + w : dfactor.row(at.col + w) + at.row + r;
    *to += alpha * total[r * kCols + w];
  }
}

template <int kRank, int kParts, Factor kFactor, typename T>
GPU_DEVICE void gradient(const GradientPass<T>& pass, Chunk chunk, int first_col, T* memory) {
  constexpr bool kOfRight = kFactor == Factor::kWideByRank;
  constexpr int kPlaces = kRank * kParts, kCols = kGradientCols<kPlaces>;
  constexpr int kWideTile = kGradientRows * kStride<kCols>,
                kHalf = kGradientRows * kStride<kPlaces>;
  constexpr int kStage = kGradientStage<kPlaces, kFactor>;
  static_assert(kPlaces * kCols * sizeof(float) <= kGradientStages<kPlaces> * kStage * sizeof(T));
  const auto part_of = [&](int p) -> const GradientPart<T>& {
    return pass.parts[chunk.part + p < pass.count ? chunk.part + p : 0];
  };
  const Rows<const T> wide_NW = kOfRight ? pass.x_NI : part_of(0).dy_NO;
  const int width = kOfRight ? pass.inputs : part_of(0).outputs;
  float sum[kPlaces / 16][kCols / 8][4] = {};
  for_stages<kGradientRows, kGradientStages<kPlaces>>(
      pass.rows,
      [&](int stage, int n) {
        T* tile = memory + stage * kStage;
        fetch<kGradientRows, kCols>(tile, wide_NW, {n, first_col}, {pass.rows, width});
#pragma unroll
        for (int p = 0; p < kParts; ++p) {
          const Rows<const T> narrow_Nr = kOfRight ? part_of(p).du_Nr : part_of(p).u_Nr;
          const int rank = chunk.part + p < pass.count ? pass.rank : 0;
#pragma unroll
          for (int half = 0; half < kHalves<kFactor>; ++half)
            fetch<kGradientRows, kRank, kPlaces>(
                tile + kWideTile + half * kHalf + p * kRank,
                Rows<const T>{narrow_Nr.data + half * pass.rank, narrow_Nr.stride}, {n, chunk.rank},
                {pass.rows, rank});
        }
      },
      [&](int stage, int) {
        const T* tile = memory + stage * kStage;
        const int k = warp_of_thread() * 16;
        TwoB wide[kCols / 16];
#pragma unroll
        for (int n = 0; n < kCols; n += 16)
          wide[n / 16] = mma::load_b_of_rows<kCols>(tile + k * kStride<kCols> + n);
#pragma unroll
        for (int half = 0; half < kHalves<kFactor>; ++half)
#pragma unroll
          for (int m = 0; m < kPlaces / 16; ++m) {
            uint32_t a[4];
            load_a_of_columns<kPlaces>(
                a, tile + kWideTile + half * kHalf + k * kStride<kPlaces> + m * 16);
#pragma unroll
            for (int n = 0; n < kCols / 16; ++n)
              multiply_add<T>(sum[m][2 * n], sum[m][2 * n + 1], a, wide[n]);
          }
      });
  // Reuses the memory of the stages.
  float* total = reinterpret_cast<float*>(memory);
  add_warps<kPlaces, kCols>(total, sum);
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    const Rows<float> dfactor = kOfRight ? part_of(p).dright_Ir : part_of(p).dleft_rO;
    if (chunk.part + p < pass.count && dfactor.data)
      add_gradient<kRank, kCols, kFactor>(dfactor, total + p * kRank * kCols,
                                          {chunk.rank, first_col}, {pass.rank, width},
                                          kOfRight ? 1 : pass.scale);
  }
}

template <int kRank, int kParts>
struct GradientShape {
  static constexpr int kRight =
      kGradientStages<kRank * kParts> * kGradientStage<kRank * kParts, Factor::kWideByRank>;
  static constexpr int kLeft = kGradientStages<kRank> * kGradientStage<kRank, Factor::kRankByWide>;
  static constexpr int kShared = kRight > kLeft ? kRight : kLeft;  // elements
  static_assert(kShared * 2 <= kMostSharedBytes);
};

// dright's blocks, which take longer, come first, then those of each dleft.
template <int kRank, int kParts, typename T>
__global__ void __launch_bounds__(kThreads) gradient_kernel(GradientPass<T> pass) {
  gpu::SharedArrays arrays;
  T* memory = arrays.take<T>(GradientShape<kRank, kParts>::kShared);
  const int chunks_of_rank = steps_of(pass.rank, kRank);
  int block = static_cast<int>(blockIdx.x);
  if (block < pass.right_blocks) {
    const int chunks = chunks_of_rank * steps_of(pass.count, kParts), chunk = block % chunks;
    return gradient<kRank, kParts, Factor::kWideByRank>(
        pass, {chunk / chunks_of_rank * kParts, chunk % chunks_of_rank * kRank},
        block / chunks * kGradientCols<kRank * kParts>, memory);
  }
  block -= pass.right_blocks;
  int part = 0;
  for (; block >= pass.parts[part].left_blocks; ++part) block -= pass.parts[part].left_blocks;
  if constexpr (kRank > kMostSlicedRank)
    gradient<kRank, 1, Factor::kRankByWide>(pass, {part, block % chunks_of_rank * kRank},
                                            block / chunks_of_rank * kGradientCols<kRank>, memory);
}

}  // namespace facet::cuda::lora
