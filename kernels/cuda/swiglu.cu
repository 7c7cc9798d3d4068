// SwiGLU. act (N,F) = silu(gate) up, where gate_up (N,2F) holds gate in columns [0,F) and up in
// [F,2F). Backward overwrites dgate_up (N,2F), and act if given.
//
// Element-wise: each thread handles packs of 16 bytes of gate together with the same columns of up.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/swiglu.h"

namespace facet::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    swiglu_forward_kernel(Rows<T> act_NF, Rows<const T> gate_up_N2F, int64_t rows, int64_t cols,
                          RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const T* gate_F = gate_up_N2F.row(r);
    float gate[kPack], up[kPack];
    load_floats(gate, gate_F, c, cols, access);
    load_floats(up, gate_F + cols, c, cols, access);
    multiply_by_silu(up, gate);
    store_floats(act_NF.row(r), up, c, cols, access);
  });
}

// silu'(g) = s (1 + g (1 - s)) with s = sigmoid(g). act may be dact.
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    swiglu_backward_kernel(Rows<T> dgate_up_N2F, Rows<T> act_NF, Rows<const T> dact_NF,
                           Rows<const T> gate_up_N2F, int64_t rows, int64_t cols,
                           RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const T* gate_F = gate_up_N2F.row(r);
    float gate[kPack], up[kPack], d[kPack];
    load_floats(gate, gate_F, c, cols, access);
    load_floats(up, gate_F + cols, c, cols, access);
    load_floats(d, dact_NF.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float g = gate[i], u = up[i], s = sigmoid(g), silu = g * s;
      gate[i] = d[i] * u * (s * (1.0f + g * (1.0f - s)));
      up[i] = d[i] * silu;
      d[i] = u * silu;
    }
    T* dgate_F = dgate_up_N2F.row(r);
    store_floats(dgate_F, gate, c, cols, access);
    store_floats(dgate_F + cols, up, c, cols, access);
    if (act_NF.data) store_floats(act_NF.row(r), d, c, cols, access);
  });
}

// The columns from F on as a separate matrix: they too must begin on a 16-byte boundary.
Operand up_columns(const Operand& gate_up_N2F) {
  Operand up = gate_up_N2F;
  up.cols /= 2;
  up.data = static_cast<char*>(up.data) + up.cols * size_of(up.dtype);
  return up;
}

}  // namespace

void swiglu_forward(Operand act_NF, Operand gate_up_N2F, cudaStream_t stream) {
  const int64_t rows = act_NF.rows, cols = act_NF.cols;
  if (rows * cols == 0) return;
  const RowAccess access = row_access({act_NF, gate_up_N2F, up_columns(gate_up_N2F)});
  with_type(act_NF.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, swiglu_forward_kernel<T>,
                rows_of<T>(act_NF), rows_of<const T>(gate_up_N2F), rows, cols, access);
  });
}

void swiglu_backward(Operand dgate_up_N2F, Operand act_NF, Operand dact_NF, Operand gate_up_N2F,
                     cudaStream_t stream) {
  const int64_t rows = dact_NF.rows, cols = dact_NF.cols;
  if (rows * cols == 0) return;
  const RowAccess access = row_access({dgate_up_N2F, up_columns(dgate_up_N2F), act_NF, dact_NF,
                                       gate_up_N2F, up_columns(gate_up_N2F)});
  with_type(dact_NF.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, swiglu_backward_kernel<T>,
                rows_of<T>(dgate_up_N2F), rows_of<T>(act_NF), rows_of<const T>(dact_NF),
                rows_of<const T>(gate_up_N2F), rows, cols, access);
  });
}

}  // namespace facet::cuda
