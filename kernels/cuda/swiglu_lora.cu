// SwiGLU and LoRA's first product of what it makes, u (N,r) = act (N,F) right (F,r), in one pass:
// act is multiplied before it leaves the multiprocessor. The bits are those of swiglu.cu and of
// lora_rows.h, whose sums run in the same order.
//
// Blocks of 32 rows go through the columns in steps of 64. Gate, up and the factor arrive in
// stages. A thread computes a pack of a step, stores it, and leaves it where the gate was. There
// tensor cores read it during the next step, so that a step has one barrier, and few warps multiply
// while the others go on.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_mma.h"
#include "kernels/cuda/swiglu.h"

namespace facet::cuda {
namespace {

constexpr int kRows = 32, kDepth = 64, kPack = 8, kPacks = kDepth / kPack;
constexpr int kBlockThreads = kRows * kPacks, kBlockWarps = kBlockThreads / gpu::kWarpSize;
constexpr int kMostRank = 64;

template <typename T>
struct SwigluLora {
  Rows<T> act_NF, u_Nr;
  Rows<const T> gate_up_N2F, right_Fr;
  int64_t rows;
  int cols, rank;
};

// Of a rank padded to kRank; elements.
template <int kRank>
struct Stages {
  static constexpr int kUp = kRows * mma::kStride<kDepth>;  // behind gate
  static constexpr int kRight = kUp + kRows * kDepth;
  static constexpr int kSize = kRight + kDepth * mma::kStride<kRank>;
  static constexpr int kCount = kRank == 16 ? 8 : 4;
  static constexpr int kShared = kCount * kSize;
  static_assert(kShared * 2 <= lora::kMostSharedBytes);
};

// What a thread copies and computes of each step, one after the other: a pack of a row, and one or
// two of the factor. Outside the matrices there are zeros.
template <int kRank, typename T>
class Thread {
 public:
  GPU_DEVICE Thread(const SwigluLora<T>& pass, T* memory) : pass_(pass), memory_(memory) {
    const int row = static_cast<int>(threadIdx.x) / kPacks;
    const int col = static_cast<int>(threadIdx.x) % kPacks * kPack;
    const int64_t r = int64_t{blockIdx.x} * kRows + row;
    gate_place_ = row * mma::kStride<kDepth> + col;
    up_place_ = Of::kUp + row * kDepth + col;
    const bool present = r < pass.rows;
    to_fetch_ = to_compute_ = present ? pass.cols - col : 0;
    gate_ = pass.gate_up_N2F.row(present ? r : 0) + col;
    act_ = pass.act_NF.row(present ? r : 0) + col;
  }

  // Starts copying a step.
  GPU_DEVICE void fetch(int step) {
    T* stage = stage_of(step);
    const bool present = to_fetch_ > 0;
    const T* gate = present ? gate_ : pass_.gate_up_N2F.data;
    gpu::cp_async_16(stage + gate_place_, gate, present ? 16 : 0);
    gpu::cp_async_16(stage + up_place_, gate + pass_.cols, present ? 16 : 0);
    gate_ += kDepth;
    to_fetch_ -= kDepth;
#pragma unroll
    for (int i = 0; i < kRightPacks; i += kBlockThreads) fetch_right(stage, step, i);
  }
  GPU_DEVICE void compute(int step) {
    T* stage = stage_of(step);
    const auto gate_pack = gpu::load_pack(stage + gate_place_);
    const auto up_pack = gpu::load_pack(stage + up_place_);
    float gate[kPack], up[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      gate[i] = gpu::to_float(gate_pack.v[i]);
      up[i] = gpu::to_float(up_pack.v[i]);
    }
    multiply_by_silu(up, gate);
    gpu::Pack<T> act;
#pragma unroll
    for (int i = 0; i < kPack; ++i) act.v[i] = gpu::from_float<T>(up[i]);
    gpu::store_pack(stage + gate_place_, act);
    if (to_compute_ > 0) gpu::store_pack_global(act_, act);
    act_ += kDepth;
    to_compute_ -= kDepth;
  }
  GPU_DEVICE T* stage_of(int step) const { return memory_ + step % Of::kCount * Of::kSize; }

 private:
  using Of = Stages<kRank>;
  static constexpr int kRightPacks = kDepth * kRank / kPack;

  GPU_DEVICE void fetch_right(T* stage, int step, int first) const {
    const int at = first + static_cast<int>(threadIdx.x);
    if (kRightPacks % kBlockThreads != 0 && at >= kRightPacks) return;
    const int row = at / (kRank / kPack), col = at % (kRank / kPack) * kPack;
    const int r = step * kDepth + row;
    const bool present = r < pass_.cols && col < pass_.rank;
    const T* right = present ? pass_.right_Fr.row(r) + col : pass_.right_Fr.data;
    gpu::cp_async_16(stage + Of::kRight + row * mma::kStride<kRank> + col, right, present ? 16 : 0);
  }

  const SwigluLora<T>& pass_;
  T* memory_;
  int gate_place_, up_place_, to_fetch_, to_compute_;  // columns to the end of the row
  const T* gate_;
  T* act_;
};

// A warp has 16 rows and 16 places of u; some have none.
template <int kRank, typename T>
__global__ void __launch_bounds__(kBlockThreads, 2) swiglu_lora_kernel(SwigluLora<T> pass) {
  using Of = Stages<kRank>;
  constexpr int kRowTiles = kRows / lora::kWarpRows, kAhead = Of::kCount - 2;
  static_assert(kRank / 16 * kRowTiles <= kBlockWarps);
  gpu::SharedArrays arrays;
  Thread<kRank, T> thread(pass, arrays.take<T>(Of::kShared));
  const int warp = lora::warp_of_thread();
  const int row = warp % kRowTiles * lora::kWarpRows, place = warp / kRowTiles * 16;
  float sum[2][4];
  lora::clear(sum);
  const auto multiply = [&](int step) {
    if (place >= kRank) return;
    const T* stage = thread.stage_of(step);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t a[4];
      mma::load_a<kDepth>(a, stage + row * mma::kStride<kDepth> + k);
      lora::multiply_add<T>(sum[0], sum[1], a,
                            lora::load_b<kRank, true>(stage + Of::kRight, k, place));
    }
  };
  const int steps = lora::steps_of(pass.cols, kDepth);
  const auto fetch = [&](int step) {
    if (step < steps) thread.fetch(step);
    gpu::cp_async_commit();
  };
  for (int step = 0; step < kAhead; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    gpu::cp_async_wait<kAhead - 1>();
    __syncthreads();  // the step is there, the one before is computed and the one before it used
    fetch(step + kAhead);
    thread.compute(step);
    if (step > 0) multiply(step - 1);
  }
  __syncthreads();
  multiply(steps - 1);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int n = i / 2, h = i % 2, col = place + lora::column_of(n, 0);
    const int64_t r = int64_t{blockIdx.x} * kRows + row + mma::lane_of_thread() / 4 + 8 * h;
    if (r < pass.rows && col < pass.rank)
      gpu::store_pair(pass.u_Nr.row(r) + col, gpu::pair_of<T>(sum[n][2 * h], sum[n][2 * h + 1]));
  }
}

template <int kRank, typename T>
void launch(const SwigluLora<T>& pass, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = static_cast<unsigned>((pass.rows + kRows - 1) / kRows),
               .block = kBlockThreads,
               .shared_bytes = Stages<kRank>::kShared * sizeof(T)},
              swiglu_lora_kernel<kRank, T>, pass);
}

}  // namespace

bool swiglu_lora_takes(const Operand& act_NF, const Operand& gate_up_N2F, const Operand& u_Nr,
                       const Operand& right_Fr, int multiprocessors) {
  const int64_t blocks = (act_NF.rows + kRows - 1) / kRows;
  return is_16_bit(act_NF.dtype) && u_Nr.cols <= kMostRank && act_NF.cols > 0 &&
         4 * blocks >= 3 * int64_t{multiprocessors} &&
         lora::suits_tensor_cores({act_NF, gate_up_N2F, u_Nr, right_Fr});
}

void swiglu_lora_forward(Operand act_NF, Operand gate_up_N2F, Operand u_Nr, Operand right_Fr,
                         cudaStream_t stream) {
  if (act_NF.rows == 0) return;
  with_type(act_NF.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2) {
      const SwigluLora<T> pass{.act_NF = rows_of<T>(act_NF),
                               .u_Nr = rows_of<T>(u_Nr),
                               .gate_up_N2F = rows_of<const T>(gate_up_N2F),
                               .right_Fr = rows_of<const T>(right_Fr),
                               .rows = act_NF.rows,
                               .cols = static_cast<int>(act_NF.cols),
                               .rank = static_cast<int>(u_Nr.cols)};
      if (pass.rank <= 16) return launch<16>(pass, stream);
      if (pass.rank <= 32) return launch<32>(pass, stream);
      launch<kMostRank>(pass, stream);
    }
  });
}

}  // namespace facet::cuda
