// SwiGLU. act (N,F) = silu(gate) up, where gate_up (N,2F) holds gate in columns [0,F) and up in
// [F,2F). Backward overwrites dgate_up (N,2F), and act (N,F) if given. Parallel over rows.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace facet {

void CpuBackend::do_swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs) {
  const Matrix act_NF(act), gate_up_N2F(gate_up);
  for_rows(act_NF.rows, gate_up_N2F.cols, [=](int64_t r) {
    const int64_t cols = act_NF.cols;
    const float *gate = gate_up_N2F.row(r), *up = gate + cols;
    float* out = act_NF.row(r);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = gate[c] * fast_sigmoid(gate[c]) * up[c];
  });
  compute_downs(act, downs);
}

namespace {

struct BackwardRow {
  float *dgate, *dup, *act;  // act may be d
  const float *d, *gate, *up;
  int64_t cols;
};

// silu'(g) = s (1 + g (1 - s)) with s = sigmoid(g). A constant says whether act is given: vectors
// of an absent one would be stored under masks.
template <bool kHasAct>
void backward_of_row(const BackwardRow& row) {
  const auto [dgate, dup, act, d, gate, up, cols] = row;
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) {
    const float g = gate[c], u = up[c], s = fast_sigmoid(g), silu = g * s;
    dgate[c] = d[c] * u * (s * (1.0f + g * (1.0f - s)));
    dup[c] = d[c] * silu;
    if constexpr (kHasAct) act[c] = silu * u;
  }
}

}  // namespace

void CpuBackend::do_swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up) {
  const Matrix dgate_up_N2F(dgate_up), act_NF(act), dact_NF(dact), gate_up_N2F(gate_up);
  for_rows(dact_NF.rows, gate_up_N2F.cols, [=](int64_t r) {
    const int64_t cols = dact_NF.cols;
    float* const dgate = dgate_up_N2F.row(r);
    const float* const gate = gate_up_N2F.row(r);
    const BackwardRow row{dgate, dgate + cols, act_NF.row(r), dact_NF.row(r),
                          gate,  gate + cols,  cols};
    if (act_NF.data)
      backward_of_row<true>(row);
    else
      backward_of_row<false>(row);
  });
}

}  // namespace facet
