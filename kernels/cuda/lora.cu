// LoRA: u (N,r) = x (N,I) right (I,r), overwritten, and y (N,O) += scale u left (r,O). Backward
// overwrites du (N,r, fp32) = scale dy left', if dx or dright is wanted, and adds to dleft += scale
// u' dy, dright += x' du (both fp32) and dx += du right'.
//
// Three kinds of products between a wide matrix (N,W), W = I or O, and a narrow one (N,r): narrow,
// expand and gradient, on tensor cores (lora_mma.h) or plain (lora_plain.h). They are our own
// kernels because the products are memory-bound: each takes 2 N W r operations and moves the N W
// elements of the wide matrix, at r = 16 in 16 bits 16 operations per byte where an H200 can do
// nearly 200, so the wide matrix must be read only once, by many blocks. cuBLASLt achieves that for
// the skinny outputs (u, du, the gradients) only by splitting the long sum, through a workspace and
// a second launch, and it has no product of fp32 (du) with 16 bits at all.
//
// u is rounded once, and y gets the product of the rounded u, which is what backward uses.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_mma.h"
#include "kernels/cuda/lora_plain.h"

namespace facet::cuda {
namespace {

unsigned tiles(int64_t size, int64_t tile) {
  return static_cast<unsigned>((size + tile - 1) / tile);
}

// ---- without tensor cores

template <typename T>
Strided<T> strided(const Operand& x) {
  return {static_cast<T*>(x.data), x.stride, 1};
}
template <typename T>
Strided<T> transposed(const Operand& x) {
  return {static_cast<T*>(x.data), 1, x.stride};
}

template <typename Out, typename Left, typename Right>
void multiply_plain(const Operand& out, Strided<const Left> left, Strided<const Right> right,
                    int64_t depth, float alpha, Total total, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = dim3(tiles(out.rows, plain::kTile), tiles(out.cols, plain::kTile)),
               .block = plain::kThreads},
              plain::product_kernel<Out, Left, Right>, strided<Out>(out), left, right, out.rows,
              out.cols, depth, alpha, total);
}

// ---- on tensor cores

// Whole packs only: every row begins on a 16-byte boundary and ends with a pack.
bool suits_tensor_cores(std::initializer_list<Operand> operands) {
  for (const Operand& x : operands)
    if (x.cols % gpu::Pack<gpu::bf16>::kSize != 0) return false;
  return row_access(operands) == RowAccess::kPacked;
}

// Calls body(integral constant of how many columns of the narrow matrix a block processes).
template <typename Body>
void with_rank(int64_t rank, const Body& body) {
  if (rank <= 16)
    body(std::integral_constant<int, 16>());
  else
    body(std::integral_constant<int, 64>());
}

int as_int(int64_t size) { return static_cast<int>(size); }

template <lora::Factor kFactor, typename Out, typename T>
void multiply_narrow(const Operand& out_Nr, const Operand& wide_NW, const Operand& factor,
                     float alpha, cudaStream_t stream) {
  with_rank(out_Nr.cols, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(stream,
                {.grid = dim3(tiles(out_Nr.rows, lora::kNarrowRows), tiles(out_Nr.cols, kRank)),
                 .block = lora::kThreads,
                 .shared_bytes = lora::kNarrowBytes<kRank, T>},
                lora::narrow_kernel<kRank, kFactor, Out, T>, rows_of<Out>(out_Nr),
                rows_of<const T>(wide_NW), rows_of<const T>(factor), out_Nr.rows,
                as_int(wide_NW.cols), as_int(out_Nr.cols), alpha);
  });
}

template <lora::Factor kFactor, typename Narrow, typename T>
void add_expanded(const Operand& out_NW, const Operand& narrow_Nr, const Operand& factor,
                  float alpha, cudaStream_t stream) {
  with_rank(narrow_Nr.cols, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(
        stream,
        {.grid = dim3(tiles(out_NW.rows, lora::kExpandRows), tiles(out_NW.cols, lora::kExpandCols)),
         .block = lora::kThreads,
         .shared_bytes = lora::kExpandBytes<kRank, Narrow, T>},
        lora::expand_kernel<kRank, kFactor, Narrow, T>, rows_of<T>(out_NW),
        rows_of<const Narrow>(narrow_Nr), rows_of<const T>(factor), out_NW.rows,
        as_int(out_NW.cols), as_int(narrow_Nr.cols), alpha);
  });
}

template <lora::Factor kFactor, typename Narrow, typename T>
void add_gradient(const Operand& dfactor, const Operand& narrow_Nr, const Operand& wide_NW,
                  float alpha, cudaStream_t stream) {
  with_rank(narrow_Nr.cols, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(
        stream,
        {.grid = dim3(tiles(wide_NW.cols, lora::kGradientCols), tiles(narrow_Nr.cols, kRank)),
         .block = lora::kThreads,
         .shared_bytes = lora::kGradientBytes<kRank, Narrow, T>},
        lora::gradient_kernel<kRank, kFactor, Narrow, T>, rows_of<float>(dfactor),
        rows_of<const Narrow>(narrow_Nr), rows_of<const T>(wide_NW), as_int(wide_NW.rows),
        as_int(wide_NW.cols), as_int(narrow_Nr.cols), alpha);
  });
}

// ---- the three kinds of products, on tensor cores if possible

template <lora::Factor kFactor, typename T>
Strided<const T> by_wide(const Operand& factor) {
  return kFactor == lora::Factor::kWideByRank ? strided<const T>(factor)
                                              : transposed<const T>(factor);
}
template <lora::Factor kFactor, typename T>
Strided<const T> by_rank(const Operand& factor) {
  return kFactor == lora::Factor::kRankByWide ? strided<const T>(factor)
                                              : transposed<const T>(factor);
}

// out (N,r) = alpha wide (N,W) factor
template <lora::Factor kFactor, typename Out, typename T>
void narrow(const Operand& out_Nr, const Operand& wide_NW, const Operand& factor, float alpha,
            cudaStream_t stream) {
  if constexpr (sizeof(T) == 2)
    if (suits_tensor_cores({out_Nr, wide_NW, factor}))
      return multiply_narrow<kFactor, Out, T>(out_Nr, wide_NW, factor, alpha, stream);
  multiply_plain<Out, T, T>(out_Nr, strided<const T>(wide_NW), by_wide<kFactor, T>(factor),
                            wide_NW.cols, alpha, Total::kOverwritten, stream);
}

// out (N,W) += alpha narrow (N,r) factor
template <lora::Factor kFactor, typename Narrow, typename T>
void expand(const Operand& out_NW, const Operand& narrow_Nr, const Operand& factor, float alpha,
            cudaStream_t stream) {
  if constexpr (sizeof(T) == 2)
    if (suits_tensor_cores({out_NW, narrow_Nr, factor}))
      return add_expanded<kFactor, Narrow, T>(out_NW, narrow_Nr, factor, alpha, stream);
  multiply_plain<T, Narrow, T>(out_NW, strided<const Narrow>(narrow_Nr),
                               by_rank<kFactor, T>(factor), narrow_Nr.cols, alpha, Total::kAddedTo,
                               stream);
}

// dfactor += alpha narrow' wide, in the layout of the factor
template <lora::Factor kFactor, typename Narrow, typename T>
void gradient(const Operand& dfactor, const Operand& narrow_Nr, const Operand& wide_NW, float alpha,
              cudaStream_t stream) {
  if constexpr (sizeof(T) == 2)
    if (suits_tensor_cores({narrow_Nr, wide_NW}))
      return add_gradient<kFactor, Narrow, T>(dfactor, narrow_Nr, wide_NW, alpha, stream);
  if constexpr (kFactor == lora::Factor::kRankByWide)
    multiply_plain<float, Narrow, T>(dfactor, transposed<const Narrow>(narrow_Nr),
                                     strided<const T>(wide_NW), wide_NW.rows, alpha,
                                     Total::kAddedTo, stream);
  else
    multiply_plain<float, T, Narrow>(dfactor, transposed<const T>(wide_NW),
                                     strided<const Narrow>(narrow_Nr), wide_NW.rows, alpha,
                                     Total::kAddedTo, stream);
}

}  // namespace

void lora_forward_accumulate(Operand y_NO, Operand u_Nr, Operand x_NI, Operand right_Ir,
                             Operand left_rO, float scale, cudaStream_t stream) {
  if (y_NO.rows == 0) return;
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    narrow<lora::Factor::kWideByRank, T, T>(u_Nr, x_NI, right_Ir, 1, stream);
    expand<lora::Factor::kRankByWide, T, T>(y_NO, u_Nr, left_rO, scale, stream);
  });
}

void lora_backward_accumulate(Operand dx_NI, Operand dright_Ir, Operand dleft_rO, Operand du_Nr,
                              Operand dy_NO, Operand x_NI, Operand u_Nr, Operand right_Ir,
                              Operand left_rO, float scale, cudaStream_t stream) {
  if (dy_NO.rows == 0) return;
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr auto kRight = lora::Factor::kWideByRank, kLeft = lora::Factor::kRankByWide;
    if (dx_NI.data || dright_Ir.data) narrow<kLeft, float, T>(du_Nr, dy_NO, left_rO, scale, stream);
    if (dleft_rO.data) gradient<kLeft, T, T>(dleft_rO, u_Nr, dy_NO, scale, stream);
    if (dright_Ir.data) gradient<kRight, float, T>(dright_Ir, du_Nr, x_NI, 1, stream);
    if (dx_NI.data) expand<kRight, float, T>(dx_NI, du_Nr, right_Ir, 1, stream);
  });
}

}  // namespace facet::cuda
