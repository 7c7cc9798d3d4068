// LoRA: u (N,r) = x (N,I) right (I,r), overwritten, and y (N,O) += scale u left (r,O). Backward
// overwrites du (N,r) = scale dy left', if dx or dright is wanted, and adds to dleft += scale u'
// dy, dright += x' du (both fp32) and dx += du right'.
//
// Three kinds of products between a wide matrix (N,W), W = I or O, and a narrow one (N,r): narrow,
// expand and gradient, all of a call on tensor cores (lora_mma.h) or all plain (lora_plain.h). They
// are our own kernels because the products are memory-bound: each takes 2 N W r operations and
// moves the N W elements of the wide matrix, at r = 16 in 16 bits 16 operations per byte where an
// H200 can do nearly 200, so the wide matrix must be read only once, by many blocks. cuBLASLt
// achieves that for the skinny outputs (u, du, the gradients) only by splitting the long sum,
// through a workspace and a second launch, and it has no product of du, which has more than 16
// bits.
//
// u is rounded once, and y gets the product of the rounded u, which is what backward uses.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_mma.h"
#include "kernels/cuda/lora_plain.h"
#include "kernels/cuda/lora_product.h"

namespace facet::cuda {
namespace {

using lora::Factor;

unsigned tiles(int64_t size, int64_t tile) {
  return static_cast<unsigned>((size + tile - 1) / tile);
}

// ---- without tensor cores; du is fp32

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

template <typename T>
void plain_forward(const Operand& y, const Operand& u, const Operand& x, const Operand& right,
                   const Operand& left, float scale, cudaStream_t stream) {
  multiply_plain<T, T, T>(u, strided<const T>(x), strided<const T>(right), x.cols, 1,
                          Total::kOverwritten, stream);
  multiply_plain<T, T, T>(y, strided<const T>(u), strided<const T>(left), u.cols, scale,
                          Total::kAddedTo, stream);
}

// What backward works on; dx, dright and dleft may be absent.
struct Backward {
  Operand dx_NI, dright_Ir, dleft_rO, du_Nr, dy_NO, x_NI, u_Nr, right_Ir, left_rO;
  float scale;
  bool du_is_output = false;

  bool wants_du() const { return dx_NI.data || dright_Ir.data || du_is_output; }
};

template <typename T>
void plain_backward(const Backward& b, cudaStream_t stream) {
  const auto dy = strided<const T>(b.dy_NO);
  const auto du = strided<const float>(b.du_Nr);
  const int64_t rank = b.du_Nr.cols;
  if (b.wants_du())
    multiply_plain<float, T, T>(b.du_Nr, dy, transposed<const T>(b.left_rO), b.dy_NO.cols, b.scale,
                                Total::kOverwritten, stream);
  if (b.dleft_rO.data)
    multiply_plain<float, T, T>(b.dleft_rO, transposed<const T>(b.u_Nr), dy, b.dy_NO.rows, b.scale,
                                Total::kAddedTo, stream);
  if (b.dright_Ir.data)
    multiply_plain<float, T, float>(b.dright_Ir, transposed<const T>(b.x_NI), du, b.x_NI.rows, 1,
                                    Total::kAddedTo, stream);
  if (b.dx_NI.data)
    multiply_plain<T, float, T>(b.dx_NI, du, transposed<const T>(b.right_Ir), rank, 1,
                                Total::kAddedTo, stream);
}

// ---- on tensor cores

// Whole packs only: every row begins on a 16-byte boundary and ends with a pack.
bool suits_tensor_cores(std::initializer_list<Operand> operands) {
  for (const Operand& x : operands)
    if (x.cols % gpu::Pack<gpu::bf16>::kSize != 0) return false;
  return row_access(operands) == RowAccess::kPacked;
}

int as_int(int64_t size) { return static_cast<int>(size); }

// Calls body(integral constant of how many columns of the narrow matrix a block processes).
template <typename Body>
void with_rank(int64_t rank, const Body& body) {
  if (rank <= 16)
    body(std::integral_constant<int, 16>());
  else if (rank <= 32)
    body(std::integral_constant<int, 32>());
  else
    body(std::integral_constant<int, 64>());
}

// An fp32 number of du has room for two of 16 bits.
template <typename T>
Rows<T> halves_of(const Operand& du_Nr) {
  return {static_cast<T*>(du_Nr.data), du_Nr.stride * 2};
}

template <Factor kFactor, typename T>
void narrow(Rows<T> out_Nr, const Operand& wide_NW, const Operand& factor, int64_t rank,
            float alpha, cudaStream_t stream) {
  with_rank(rank, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(stream,
                {.grid = dim3(tiles(wide_NW.rows, lora::kNarrowRows), tiles(rank, kRank)),
                 .block = lora::kThreads,
                 .shared_bytes = lora::kNarrowBytes<kRank, kFactor, T>},
                lora::narrow_kernel<kRank, kFactor, T>, out_Nr, rows_of<const T>(wide_NW),
                rows_of<const T>(factor), wide_NW.rows, as_int(wide_NW.cols), as_int(rank), alpha);
  });
}

template <Factor kFactor, typename T>
void expand(const Operand& out_NW, Rows<const T> narrow_Nr, const Operand& factor, int64_t rank,
            float alpha, cudaStream_t stream) {
  with_rank(rank, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(
        stream,
        {.grid = dim3(tiles(out_NW.rows, lora::kExpandRows), tiles(out_NW.cols, lora::kExpandCols)),
         .block = lora::kThreads,
         .shared_bytes = lora::kExpandBytes<kRank, kFactor, T>},
        lora::expand_kernel<kRank, kFactor, T>, rows_of<T>(out_NW), narrow_Nr,
        rows_of<const T>(factor), out_NW.rows, as_int(out_NW.cols), as_int(rank), alpha);
  });
}

template <Factor kFactor, typename T>
void gradient(const Operand& dfactor, Rows<const T> narrow_Nr, const Operand& wide_NW, int64_t rank,
              float alpha, cudaStream_t stream) {
  with_rank(rank, [&](auto constant) {
    constexpr int kRank = decltype(constant)::value;
    gpu::launch(stream,
                {.grid = dim3(tiles(wide_NW.cols, lora::kGradientCols), tiles(rank, kRank)),
                 .block = lora::kThreads,
                 .shared_bytes = lora::kGradientBytes<kRank, kFactor, T>},
                lora::gradient_kernel<kRank, kFactor, T>, rows_of<float>(dfactor), narrow_Nr,
                rows_of<const T>(wide_NW), as_int(wide_NW.rows), as_int(wide_NW.cols), as_int(rank),
                alpha);
  });
}

template <typename T>
void fast_backward(const Backward& b, cudaStream_t stream) {
  constexpr Factor kRight = Factor::kWideByRank, kLeft = Factor::kRankByWide;
  const int64_t rank = b.u_Nr.cols;
  const auto u = rows_of<const T>(b.u_Nr);
  const auto du = halves_of<const T>(b.du_Nr);
  if (b.wants_du()) narrow<kLeft>(halves_of<T>(b.du_Nr), b.dy_NO, b.left_rO, rank, b.scale, stream);
  if (b.dleft_rO.data) gradient<kLeft>(b.dleft_rO, u, b.dy_NO, rank, b.scale, stream);
  if (b.dright_Ir.data) gradient<kRight>(b.dright_Ir, du, b.x_NI, rank, 1, stream);
  if (b.dx_NI.data) expand<kRight>(b.dx_NI, du, b.right_Ir, rank, 1, stream);
}

}  // namespace

void lora_forward_accumulate(Operand y_NO, Operand u_Nr, Operand x_NI, Operand right_Ir,
                             Operand left_rO, float scale, cudaStream_t stream) {
  if (y_NO.rows == 0) return;
  const bool is_fast = suits_tensor_cores({y_NO, u_Nr, x_NI, right_Ir, left_rO});
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast) {
        const int64_t rank = u_Nr.cols;
        narrow<Factor::kWideByRank>(rows_of<T>(u_Nr), x_NI, right_Ir, rank, 1, stream);
        expand<Factor::kRankByWide>(y_NO, rows_of<const T>(u_Nr), left_rO, rank, scale, stream);
        return;
      }
    plain_forward<T>(y_NO, u_Nr, x_NI, right_Ir, left_rO, scale, stream);
  });
}

void lora_narrow_forward(Operand u_Nr, Operand x_NI, Operand right_Ir, cudaStream_t stream) {
  if (u_Nr.rows == 0) return;
  const bool is_fast = suits_tensor_cores({u_Nr, x_NI, right_Ir});
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast)
        return narrow<Factor::kWideByRank>(rows_of<T>(u_Nr), x_NI, right_Ir, u_Nr.cols, 1, stream);
    multiply_plain<T, T, T>(u_Nr, strided<const T>(x_NI), strided<const T>(right_Ir), x_NI.cols, 1,
                            Total::kOverwritten, stream);
  });
}

namespace {

void run_backward(const Backward& b, cudaStream_t stream) {
  if (b.dy_NO.rows == 0) return;
  const bool is_fast =
      suits_tensor_cores({b.dx_NI, b.du_Nr, b.dy_NO, b.x_NI, b.u_Nr, b.right_Ir, b.left_rO});
  with_type(b.x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast) return fast_backward<T>(b, stream);
    plain_backward<T>(b, stream);
  });
}

}  // namespace

void lora_backward_accumulate(Operand dx_NI, Operand dright_Ir, Operand dleft_rO, Operand du_Nr,
                              Operand dy_NO, Operand x_NI, Operand u_Nr, Operand right_Ir,
                              Operand left_rO, float scale, cudaStream_t stream) {
  run_backward({dx_NI, dright_Ir, dleft_rO, du_Nr, dy_NO, x_NI, u_Nr, right_Ir, left_rO, scale},
               stream);
}

void lora_narrow_backward(Operand dright_Ir, Operand dleft_rO, Operand du_Nr, Operand dy_NO,
                          Operand x_NI, Operand u_Nr, Operand right_Ir, Operand left_rO,
                          float scale, cudaStream_t stream) {
  run_backward({{}, dright_Ir, dleft_rO, du_Nr, dy_NO, x_NI, u_Nr, right_Ir, left_rO, scale, true},
               stream);
}

}  // namespace facet::cuda
