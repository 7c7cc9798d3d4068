// LoRA of the layers with one input, the parts of a call: forward u (N,r) = x (N,I) right (I,r) and
// y (N,O) = addend (N,O) + scale u left (r,O); backward du (N,r) = scale dy left', dleft += scale
// u' dy and dx = addend + the sum over the parts of du right', and then dright += x' du. The
// gradients of both factors are fp32.
//
// On tensor cores that is one kernel forward (lora_rows.h), which reads x once and writes each y
// once, and three backward: one reads dy (lora_slices.h), one writes dx, and one (lora_gradients.h)
// reads x. For ranks above 32 two of them read dy: the one that writes dx, and the gradients'.
// The products are memory-bound: each takes 2 N W r operations and moves the N W elements of a
// matrix with W = I or O columns, at r = 16 in 16 bits 16 operations per byte where an H200 can do
// nearly 200. cuBLASLt gets there for the narrow outputs (u, du, the gradients) only by splitting
// the long sum, through a workspace and a second launch, and it has no product of du, which has
// more than 16 bits.
//
// u is rounded once, and y gets the product of the rounded u, which is what backward uses.
#include <algorithm>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_gradients.h"
#include "kernels/cuda/lora_plain.h"
#include "kernels/cuda/lora_rows.h"
#include "kernels/cuda/lora_slices.h"

namespace facet::cuda {
namespace {

using Parts = std::span<const LoraOperands>;

int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// ---- du, in fp32 or in two halves of 16 bits, for which an fp32 number has the room

template <typename T>
Rows<T> halves_of(const Operand& du_Nr) {
  return {static_cast<T*>(du_Nr.data), du_Nr.stride * 2};
}
auto du_view(const Operand& du_Nr, float) {
  return Strided<float>{static_cast<float*>(du_Nr.data), du_Nr.stride, 1};
}
template <typename T>
auto du_view(const Operand& du_Nr, T) {
  return StridedHalves<T>{halves_of<T>(du_Nr).data, halves_of<T>(du_Nr).stride, 1, du_Nr.cols};
}

// ---- without tensor cores, a part after the other

template <typename T>
Strided<T> strided(const Operand& x) {
  return {static_cast<T*>(x.data), x.stride, 1};
}
template <typename T>
Strided<T> transposed(const Operand& x) {
  return {static_cast<T*>(x.data), 1, x.stride};
}

template <typename Out, typename Addend, typename Left, typename Right>
void multiply_plain(const Operand& size, const Out& out, const Addend& addend, const Left& left,
                    const Right& right, int64_t depth, float alpha, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = dim3(static_cast<unsigned>(tiles(size.rows, plain::kTile)),
                            static_cast<unsigned>(tiles(size.cols, plain::kTile))),
               .block = plain::kThreads},
              plain::product_kernel<Out, Addend, Left, Right>, out, addend, left, right, size.rows,
              size.cols, depth, alpha);
}

template <typename T>
void plain_forward(const LoraOperands& part, const Operand& x, float scale, LoraU given,
                   cudaStream_t stream) {
  const Operand &u = part.u_Nr, &y = part.y_NO;
  if (given == LoraU::kComputed)
    multiply_plain(u, strided<T>(u), Strided<const T>{}, strided<const T>(x),
                   strided<const T>(part.right_Ir), x.cols, 1, stream);
  if (y.data)
    multiply_plain(y, strided<T>(y), strided<const T>(part.addend_NO), strided<const T>(u),
                   strided<const T>(part.left_rO), u.cols, scale, stream);
}

template <typename T>
void plain_backward_input(const LoraOperands& part, const Operand& dx, const Operand& addend,
                          float scale, cudaStream_t stream) {
  const Operand &du = part.du_Nr, &dy = part.y_NO, &dleft = part.dleft_rO;
  multiply_plain(du, du_view(du, T()), Strided<const float>{}, strided<const T>(dy),
                 transposed<const T>(part.left_rO), dy.cols, scale, stream);
  if (dleft.data)
    multiply_plain(dleft, strided<float>(dleft), strided<const float>(dleft),
                   transposed<const T>(part.u_Nr), strided<const T>(dy), dy.rows, scale, stream);
  if (dx.data)
    multiply_plain(dx, strided<T>(dx), strided<const T>(addend), du_view(du, T()),
                   transposed<const T>(part.right_Ir), du.cols, 1, stream);
}

template <typename T>
void plain_backward_right(const LoraOperands& part, const Operand& x, cudaStream_t stream) {
  const Operand& dright = part.dright_Ir;
  if (dright.data)
    multiply_plain(dright, strided<float>(dright), strided<const float>(dright),
                   transposed<const T>(x), du_view(part.du_Nr, T()), x.rows, 1, stream);
}

// ---- on tensor cores

bool suits_tensor_cores(Parts parts, std::initializer_list<Operand> with) {
  return parts.size() <= lora::kMostParts && lora::suits_tensor_cores(with) &&
         std::ranges::all_of(parts, [&](const LoraOperands& part) {
           return part.right_Ir.cols == parts[0].right_Ir.cols &&
                  lora::suits_tensor_cores({part.y_NO, part.addend_NO, part.u_Nr, part.du_Nr,
                                            part.right_Ir, part.left_rO});
         });
}

int as_int(int64_t size) { return static_cast<int>(size); }

// Calls body with the constants kRank and kParts of a call's kernels: the columns of a part that
// are processed at a time, and the parts.
template <typename Body>
void with_places(Parts parts, const Body& body) {
  const int64_t rank = parts[0].right_Ir.cols;
  const auto with_rank = [&](auto padded) {
    if (parts.size() == 1) return body(padded, std::integral_constant<int, 1>());
    if (parts.size() == 2) return body(padded, std::integral_constant<int, 2>());
    body(padded, std::integral_constant<int, 3>());
  };
  if (rank <= 16) return with_rank(std::integral_constant<int, 16>());
  if (rank <= 32) return with_rank(std::integral_constant<int, 32>());
  body(std::integral_constant<int, 64>(), std::integral_constant<int, 1>());
}

template <typename T>
lora::RowPass<T> forward_pass(Parts parts, const Operand& x, float scale) {
  lora::RowPass<T> pass{.rows = x.rows,
                        .count = as_int(std::ssize(parts)),
                        .rank = as_int(parts[0].right_Ir.cols),
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
lora::RowPass<T> backward_pass(Parts parts, const Operand& dx, const Operand& addend, float scale) {
  lora::RowPass<T> pass{.rows = parts[0].y_NO.rows,
                        .count = as_int(std::ssize(parts)),
                        .rank = as_int(parts[0].right_Ir.cols),
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
                     .out_width = as_int(dx.cols)};
  return pass;
}

// Of du and dleft, in one reading of dy.
bool is_sliced(Parts parts) { return parts[0].right_Ir.cols <= lora::kMostSlicedRank; }

// Calls run(phases, column blocks): once if the kernel's blocks, one for 64 rows, are enough for
// the GPU; else twice, and the one that writes has two blocks a multiprocessor. It is alone where
// the narrow matrices are given.
template <typename T, typename Run>
void in_phases(const lora::RowPass<T>& pass, LoraU narrow, int multiprocessors, const Run& run) {
  using enum lora::Phases;
  if (!pass.parts[0].out.data) return run(kNarrow, 1);
  const int64_t blocks = tiles(pass.rows, lora::kBlockRows);
  const bool computes = narrow == LoraU::kComputed;
  if (4 * blocks >= 3 * int64_t{multiprocessors}) return run(computes ? kBoth : kOutputs, 1);
  int widest = 0;
  for (const auto& part : pass.parts) widest = std::max(widest, part.out_width);
  if (computes) run(kNarrow, 1);
  run(kOutputs,
      std::min(tiles(widest, lora::kOutCols), tiles(2 * int64_t{multiprocessors}, blocks)));
}

template <lora::Way kWay, typename T>
void run_rows(Parts parts, const lora::RowPass<T>& pass, int multiprocessors, cudaStream_t stream,
              LoraU u = LoraU::kComputed) {
  with_places(parts, [&](auto rank, auto count) {
    constexpr int kRank = decltype(rank)::value, kParts = decltype(count)::value;
    if constexpr (kWay == lora::Way::kForward || kRank > lora::kMostSlicedRank)
      in_phases(pass, u, multiprocessors, [&](lora::Phases phases, int64_t column_blocks) {
        gpu::launch(stream,
                    {.grid = dim3(static_cast<unsigned>(tiles(pass.rows, lora::kBlockRows)),
                                  static_cast<unsigned>(column_blocks)),
                     .block = lora::kThreads,
                     .shared_bytes = lora::RowShape<kRank, kParts, kWay>::kShared * sizeof(T)},
                    lora::row_kernel<kRank, kParts, kWay, T>, pass, phases);
      });
  });
}

// ---- du and dleft in one reading of dy

// How the columns and rows of dy are divided, from which the bits of du and dleft follow: into
// slices of each part, and into ranges of at least 512 rows, as many as make 256 blocks.
class Slices {
 public:
  explicit Slices(Parts parts)
      : row_steps_(tiles(parts[0].y_NO.rows, lora::kBlockRows)), rank_(parts[0].right_Ir.cols) {
    constexpr int64_t kBlocks = 256, kLeastSteps = 512 / lora::kBlockRows;
    for (const LoraOperands& part : parts) all_ += of(part);
    const int64_t ranges = std::min(tiles(kBlocks, all_), tiles(row_steps_, kLeastSteps));
    steps_of_range_ = tiles(row_steps_, ranges);
  }

  int64_t all() const { return all_; }
  static int64_t of(const LoraOperands& part) { return tiles(part.left_rO.cols, lora::kSliceCols); }
  int64_t row_steps() const { return row_steps_; }
  int64_t steps_of_range() const { return steps_of_range_; }
  int64_t ranges() const { return tiles(row_steps_, steps_of_range_); }
  // Of the sums of a part.
  int64_t du_floats(const LoraOperands& part) const {
    return of(part) * row_steps_ * lora::kBlockRows * rank_;
  }
  int64_t dleft_floats(const LoraOperands& part) const {
    if (!part.dleft_rO.data) return 0;
    return ranges() * of(part) * lora::kSliceCols * (rank_ <= 16 ? 16 : lora::kMostSlicedRank);
  }
  int64_t floats(Parts parts) const {
    int64_t sum = 0;
    for (const LoraOperands& part : parts) sum += du_floats(part) + dleft_floats(part);
    return sum;
  }

 private:
  int64_t row_steps_, rank_, all_ = 0, steps_of_range_ = 0;
};

// du, dleft and dx.
template <typename T>
void run_slices(Parts parts, const lora::RowPass<T>& rows, float* sums, int multiprocessors,
                cudaStream_t stream) {
  const Slices slices(parts);
  lora::SlicePass<T> pass{
      .rows = rows.rows, .rank = rows.rank, .steps_of_range = as_int(slices.steps_of_range())};
  lora::SliceSums results{.ranges = as_int(slices.ranges()),
                          .row_blocks = as_int(slices.row_steps())};
  int dleft_blocks = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LoraOperands& part = parts[i];
    const bool wants_dleft = part.dleft_rO.data != nullptr;
    float* const of_du = sums;
    sums += slices.du_floats(part);
    float* const of_dleft = wants_dleft ? sums : nullptr;
    sums += slices.dleft_floats(part);
    const int outputs = as_int(part.left_rO.cols), count = as_int(Slices::of(part));
    pass.parts[i] = {.dy_NO = rows_of<const T>(part.y_NO),
                     .u_Nr = rows_of<const T>(part.u_Nr),
                     .left_rO = rows_of<const T>(part.left_rO),
                     .du_sums = of_du,
                     .dleft_sums = of_dleft,
                     .outputs = outputs,
                     .slices = count};
    results.parts[i] = {.du_sums = of_du,
                        .dleft_sums = of_dleft,
                        .dleft_rO = rows_of<float>(part.dleft_rO),
                        .outputs = outputs,
                        .slices = count,
                        .dleft_blocks = wants_dleft ? as_int(tiles(outputs, lora::kChunkCols)) : 0};
    dleft_blocks += results.parts[i].dleft_blocks;
  }
  with_places(parts, [&](auto rank, auto count) {
    constexpr int kRank = decltype(rank)::value, kParts = decltype(count)::value;
    if constexpr (kRank <= lora::kMostSlicedRank) {
      gpu::launch(
          stream,
          {.grid = dim3(static_cast<unsigned>(slices.all()), static_cast<unsigned>(results.ranges)),
           .block = lora::kThreads,
           .shared_bytes = lora::SliceShape<kRank>::kShared * sizeof(T)},
          lora::slice_kernel<kRank, T>, pass);
      in_phases(rows, LoraU::kComputed, multiprocessors,
                [&](lora::Phases phases, int64_t column_blocks) {
                  const int others = phases == lora::Phases::kOutputs ? 0 : dleft_blocks;
                  gpu::launch(stream,
                              {.grid = dim3(static_cast<unsigned>(results.row_blocks + others),
                                            static_cast<unsigned>(column_blocks)),
                               .block = lora::kThreads,
                               .shared_bytes = lora::kSumsShared<kRank * kParts> * sizeof(T)},
                              lora::slice_sums_kernel<kRank, kParts, T>, rows, results, phases);
                });
    }
  });
}

// dleft of ranks that slices do not take, or dright.
template <lora::Factor kFactor, typename T>
void add_gradients(Parts parts, const Operand& x, float scale, cudaStream_t stream) {
  constexpr bool kOfRight = kFactor == lora::Factor::kWideByRank;
  lora::GradientPass<T> pass{.x_NI = rows_of<const T>(x),
                             .rows = as_int(kOfRight ? x.rows : parts[0].y_NO.rows),
                             .inputs = as_int(x.cols),
                             .count = as_int(std::ssize(parts)),
                             .rank = as_int(parts[0].right_Ir.cols),
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
      if (kOfRight && part.dright_Ir.data)
        pass.right_blocks = as_int(tiles(pass.inputs, lora::kGradientCols<kRank * kParts>) *
                                   tiles(pass.count, kParts) * chunks);
      if (!kOfRight && part.dleft_rO.data)
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
  const bool is_fast = suits_tensor_cores(parts, {x_NI});
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast)
        return run_rows<lora::Way::kForward>(parts, forward_pass<T>(parts, x_NI, scale),
                                             multiprocessors, stream, u);
    for (const LoraOperands& part : parts) plain_forward<T>(part, x_NI, scale, u, stream);
  });
}

int64_t lora_backward_floats(Parts parts) {
  const Operand& dy = parts[0].y_NO;
  const bool sliced =
      is_16_bit(dy.dtype) && dy.rows > 0 && is_sliced(parts) && suits_tensor_cores(parts, {});
  return sliced ? Slices(parts).floats(parts) : 0;
}

void lora_backward_input(Parts parts, Operand dx_NI, Operand addend_NI, float scale, float* sums,
                         int multiprocessors, cudaStream_t stream) {
  if (parts[0].y_NO.rows == 0) return;
  const bool is_fast = suits_tensor_cores(parts, {dx_NI, addend_NI});
  with_type(parts[0].y_NO.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast) {
        const auto pass = backward_pass<T>(parts, dx_NI, addend_NI, scale);
        if (is_sliced(parts)) return run_slices<T>(parts, pass, sums, multiprocessors, stream);
        run_rows<lora::Way::kBackward>(parts, pass, multiprocessors, stream);
        return add_gradients<lora::Factor::kRankByWide, T>(parts, {}, scale, stream);
      }
    for (size_t i = 0; i < parts.size(); ++i)
      plain_backward_input<T>(parts[i], dx_NI, i == 0 ? addend_NI : dx_NI, scale, stream);
  });
}

void lora_backward_right(Parts parts, Operand x_NI, cudaStream_t stream) {
  if (x_NI.rows == 0) return;
  const bool is_fast = suits_tensor_cores(parts, {x_NI});
  with_type(x_NI.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 2)
      if (is_fast) return add_gradients<lora::Factor::kWideByRank, T>(parts, x_NI, 1, stream);
    for (const LoraOperands& part : parts) plain_backward_right<T>(part, x_NI, stream);
  });
}

}  // namespace facet::cuda
