// LoRA of the layers with one input, the parts of a call: forward u (N,r) = x (N,I) right (I,r) and
// y (N,O) = addend (N,O) + scale u left (r,O); backward du (N,r) = scale dy left', and adds to
// dleft
// += scale u' dy and dright += x' du, both fp32; dx = addend + the sum over the parts of du right'.
//
// On tensor cores that is one kernel forward (lora_rows.h), which reads x once and writes each y
// once, and two backward: one reads dy and writes dx, the other (lora_gradients.h) reads dy and x.
// The products are memory-bound: each takes 2 N W r operations and moves the N W elements of a
// matrix with W = I or O columns, at r = 16 in 16 bits 16 operations per byte where an H200 can do
// nearly 200. cuBLASLt gets there for the narrow outputs (u, du, the gradients) only by splitting
// the long sum, through a workspace and a second launch, and it has no product of du, which has
// more than 16 bits. One reading of dy for both du and dleft does not pay: the parts of dleft that
// each block of rows would leave in fp32 are as many bytes as dy at rank 16.
//
// u is rounded once, and y gets the product of the rounded u, which is what backward uses.
#include <algorithm>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_gradients.h"
#include "kernels/cuda/lora_plain.h"
#include "kernels/cuda/lora_rows.h"

namespace facet::cuda {
namespace {

using Parts = std::span<const LoraOperands>;

int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// ---- without tensor cores, a part after the other; du is fp32

template <typename T>
Strided<T> strided(const Operand& x) {
  return {static_cast<T*>(x.data), x.stride, 1};
}
template <typename T>
Strided<T> transposed(const Operand& x) {
  return {static_cast<T*>(x.data), 1, x.stride};
}

template <typename Out, typename Left, typename Right>
void multiply_plain(const Operand& out, const Operand& addend, Strided<const Left> left,
                    Strided<const Right> right, int64_t depth, float alpha, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = dim3(static_cast<unsigned>(tiles(out.rows, plain::kTile)),
                            static_cast<unsigned>(tiles(out.cols, plain::kTile))),
               .block = plain::kThreads},
              plain::product_kernel<Out, Left, Right>, strided<Out>(out),
              strided<const Out>(addend), left, right, out.rows, out.cols, depth, alpha);
}

template <typename T>
void plain_forward(const LoraOperands& part, const Operand& x, float scale, LoraU u,
                   cudaStream_t stream) {
  if (u == LoraU::kComputed)
    multiply_plain<T, T, T>(part.u_Nr, {}, strided<const T>(x), strided<const T>(part.right_Ir),
                            x.cols, 1, stream);
  if (part.y_NO.data)
    multiply_plain<T, T, T>(part.y_NO, part.addend_NO, strided<const T>(part.u_Nr),
                            strided<const T>(part.left_rO), part.u_Nr.cols, scale, stream);
}

template <typename T>
void plain_du(const LoraOperands& part, float scale, cudaStream_t stream) {
  const Operand& dy = part.y_NO;
  multiply_plain<float, T, T>(part.du_Nr, {}, strided<const T>(dy),
                              transposed<const T>(part.left_rO), dy.cols, scale, stream);
}

template <typename T>
void plain_backward(const LoraOperands& part, const Operand& dx, const Operand& addend,
                    const Operand& x, float scale, cudaStream_t stream) {
  const Operand &du = part.du_Nr, &dy = part.y_NO;
  if (part.dleft_rO.data)
    multiply_plain<float, T, T>(part.dleft_rO, part.dleft_rO, transposed<const T>(part.u_Nr),
                                strided<const T>(dy), dy.rows, scale, stream);
  if (part.dright_Ir.data)
    multiply_plain<float, T, float>(part.dright_Ir, part.dright_Ir, transposed<const T>(x),
                                    strided<const float>(du), x.rows, 1, stream);
  if (dx.data)
    multiply_plain<T, float, T>(dx, addend, strided<const float>(du),
                                transposed<const T>(part.right_Ir), du.cols, 1, stream);
}

// ---- on tensor cores

bool suits_tensor_cores(Parts parts, const Operand& x, const Operand& dx, const Operand& addend) {
  return parts.size() <= lora::kMostParts && lora::suits_tensor_cores({x, dx, addend}) &&
         std::ranges::all_of(parts, [&](const LoraOperands& part) {
           return part.u_Nr.cols == parts[0].u_Nr.cols &&
                  lora::suits_tensor_cores({part.y_NO, part.addend_NO, part.u_Nr, part.du_Nr,
                                            part.right_Ir, part.left_rO});
         });
}

int as_int(int64_t size) { return static_cast<int>(size); }

// Calls body with the constants kRank and kParts of a call's kernels: the columns of a part that
// are processed at a time, and the parts.
template <typename Body>
void with_places(Parts parts, const Body& body) {
  const int64_t rank = parts[0].u_Nr.cols;
  const auto with_rank = [&](auto padded) {
    if (parts.size() == 1) return body(padded, std::integral_constant<int, 1>());
    if (parts.size() == 2) return body(padded, std::integral_constant<int, 2>());
    body(padded, std::integral_constant<int, 3>());
  };
  if (rank <= 16) return with_rank(std::integral_constant<int, 16>());
  if (rank <= 32) return with_rank(std::integral_constant<int, 32>());
  body(std::integral_constant<int, 64>(), std::integral_constant<int, 1>());
}

// An fp32 number of du has room for two of 16 bits.
template <typename T>
Rows<T> halves_of(const Operand& du_Nr) {
  return {static_cast<T*>(du_Nr.data), du_Nr.stride * 2};
}

template <typename T>
lora::RowPass<T> forward_pass(Parts parts, const Operand& x, float scale) {
  lora::RowPass<T> pass{.rows = x.rows,
                        .count = as_int(std::ssize(parts)),
                        .rank = as_int(parts[0].u_Nr.cols),
                        .narrow_scale = 1,
                        .out_scale = scale};
  for (size_t i = 0; i < parts.size(); ++i)
    pass.parts[i] = {.wide = rows_of<const T>(x),
                     .narrow_Nr = rows_of<T>(parts[i].u_Nr),
                     .from = rows_of<const T>(parts[i].right_Ir),
                     .to = rows_of<const T>(parts[i].left_rO),
                     .out = rows_of<T>(parts[i].y_NO),
                     .addend = rows_of<const T>(parts[i].addend_NO),
                     .width = as_int(x.cols),
                     .out_width = as_int(parts[i].y_NO.cols)};
  return pass;
}

template <typename T>
lora::RowPass<T> backward_pass(Parts parts, const Operand& dx, const Operand& addend,
                               const Operand& x, float scale) {
  lora::RowPass<T> pass{.rows = x.rows,
                        .count = as_int(std::ssize(parts)),
                        .rank = as_int(parts[0].u_Nr.cols),
                        .narrow_scale = scale,
                        .out_scale = 1};
  for (size_t i = 0; i < parts.size(); ++i)
    pass.parts[i] = {.wide = rows_of<const T>(parts[i].y_NO),
                     .narrow_Nr = halves_of<T>(parts[i].du_Nr),
                     .from = rows_of<const T>(parts[i].left_rO),
                     .to = rows_of<const T>(parts[i].right_Ir),
                     .out = rows_of<T>(dx),
                     .addend = rows_of<const T>(addend),
                     .width = as_int(parts[i].y_NO.cols),
                     .out_width = as_int(x.cols)};
  return pass;
}

template <lora::Way kWay, typename T>
void run_phases(Parts parts, const lora::RowPass<T>& pass, lora::Phases phases,
                int64_t column_blocks, cudaStream_t stream) {
  with_places(parts, [&](auto rank, auto count) {
    constexpr int kRank = decltype(rank)::value, kParts = decltype(count)::value;
    gpu::launch(stream,
                {.grid = dim3(static_cast<unsigned>(tiles(pass.rows, lora::kBlockRows)),
                              static_cast<unsigned>(column_blocks)),
                 .block = lora::kThreads,
                 .shared_bytes = lora::RowShape<kRank, kParts, kWay>::kShared * sizeof(T)},
                lora::row_kernel<kRank, kParts, kWay, T>, pass, phases);
  });
}

// One launch if its blocks, one for 64 rows, are enough for the GPU; else two, of which the one
// that writes has two blocks a multiprocessor. It is alone where the narrow matrices are there.
template <lora::Way kWay, typename T>
void run_rows(Parts parts, const lora::RowPass<T>& pass, int multiprocessors, cudaStream_t stream,
              LoraU u = LoraU::kComputed) {
  using enum lora::Phases;
  if (!pass.parts[0].out.data) return run_phases<kWay>(parts, pass, kNarrow, 1, stream);
  const int64_t blocks = tiles(pass.rows, lora::kBlockRows);
  const bool has_narrow = u == LoraU::kGiven;
  if (4 * blocks >= 3 * int64_t{multiprocessors})
    return run_phases<kWay>(parts, pass, has_narrow ? kOutputs : kBoth, 1, stream);
  int widest = 0;
  for (const auto& part : pass.parts) widest = std::max(widest, part.out_width);
  if (!has_narrow) run_phases<kWay>(parts, pass, kNarrow, 1, stream);
  run_phases<kWay>(
      parts, pass, kOutputs,
      std::min(tiles(widest, lora::kOutCols), tiles(2 * int64_t{multiprocessors}, blocks)), stream);
}

template <typename T>
void add_gradients(Parts parts, const Operand& x, float scale, cudaStream_t stream) {
  lora::GradientPass<T> pass{.x_NI = rows_of<const T>(x),
                             .rows = as_int(x.rows),
                             .inputs = as_int(x.cols),
                             .count = as_int(std::ssize(parts)),
                             .rank = as_int(parts[0].u_Nr.cols),
                             .scale = scale};
  for (size_t i = 0; i < parts.size(); ++i)
    pass.parts[i] = {.dy_NO = rows_of<const T>(parts[i].y_NO),
                     .u_Nr = rows_of<const T>(parts[i].u_Nr),
                     .du_Nr = halves_of<const T>(parts[i].du_Nr),
                     .dright_Ir = rows_of<float>(parts[i].dright_Ir),
                     .dleft_rO = rows_of<float>(parts[i].dleft_rO),
                     .outputs = as_int(parts[i].y_NO.cols)};
  with_places(parts, [&](auto rank, auto count) {
    constexpr int kRank = decltype(rank)::value, kParts = decltype(count)::value;
    const int64_t chunks = tiles(pass.rank, kRank);
    int blocks = 0;
    for (auto& part : pass.parts) {
      if (part.dright_Ir.data)
        pass.right_blocks = as_int(tiles(pass.inputs, lora::kGradientCols<kRank * kParts>) *
                                   tiles(pass.count, kParts) * chunks);
      if (part.dleft_rO.data)
        part.left_blocks = as_int(tiles(part.outputs, lora::kGradientCols<kRank>) * chunks);
      blocks += part.left_blocks;
    }
    blocks += pass.right_blocks;
    if (blocks == 0) return;
    gpu::launch(stream,
                {.grid = static_cast<unsigned>(blocks),
                 .block = lora::kThreads,
                 .shared_bytes = lora::GradientShape<kRank, kParts>::kShared * sizeof(T)},
                lora::gradient_kernel<kRank, kParts, T>, pass);
  });
}

}  // namespace

void lora_forward(Parts parts, Operand x_NI, float scale, LoraU u, int multiprocessors,
                  cudaStream_t stream) {
  if (x_NI.rows == 0 || (u == LoraU::kGiven && !parts[0].y_NO.data)) return;
  const bool is_fast = suits_tensor_cores(parts, x_NI, {}, {});
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast)
        return run_rows<lora::Way::kForward>(parts, forward_pass<T>(parts, x_NI, scale),
                                             multiprocessors, stream, u);
    for (const LoraOperands& part : parts) plain_forward<T>(part, x_NI, scale, u, stream);
  });
}

void lora_backward(Parts parts, Operand dx_NI, Operand addend_NI, Operand x_NI, float scale,
                   LoraDu du, int multiprocessors, cudaStream_t stream) {
  if (x_NI.rows == 0) return;
  const bool is_fast = suits_tensor_cores(parts, x_NI, dx_NI, addend_NI);
  const bool wants_du = du == LoraDu::kResult || dx_NI.data ||
                        std::ranges::any_of(parts, [](const LoraOperands& part) {
                          return part.dright_Ir.data != nullptr;
                        });
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast) {
        if (wants_du)
          run_rows<lora::Way::kBackward>(parts,
                                         backward_pass<T>(parts, dx_NI, addend_NI, x_NI, scale),
                                         multiprocessors, stream);
        return add_gradients<T>(parts, x_NI, scale, stream);
      }
    for (size_t i = 0; i < parts.size(); ++i) {
      if (wants_du) plain_du<T>(parts[i], scale, stream);
      plain_backward<T>(parts[i], dx_NI, i == 0 ? addend_NI : dx_NI, x_NI, scale, stream);
    }
  });
}

}  // namespace facet::cuda
