// The dictionary of operators. An op is what a backend may do as one kernel. Its public function
// checks the operands' shapes and types, counts the call and then calls do_<name> of the backend
// (kernels/cpu, kernels/cuda), which holds the arithmetic alone; one that is missing does not
// build.
//
// Rules
// - Arguments: outputs, inputs, scalars. Tensors are views; the caller owns the memory. An
//   undefined Tensor stands for an optional argument that is absent.
// - Outputs are overwritten. Parameter gradients (names d<weight>) are ACCUMULATED. What else adds
//   to its output carries _accumulate in its name.
// - Inside an op the arithmetic is fp32 (statistics and long sums at least); outputs are rounded
//   once.
// - Activations, their gradients and weights are fp32, bf16 or fp16. Always fp32: parameter
//   gradients (d<weight>, accumulated), mean, rstd, lse, row_loss, cos, sin, pixels, du, and what
//   the optimizer works on. Rows that are only moved are of one type on both sides. A backend that
//   computes on fp32 tensors alone stands under HalfStorage (ops/half_storage.h).
// - Results are the same bits for the same inputs and the same number of threads: no atomics on
//   floats.
// - Matrices may have a row stride larger than their width wherever a comment does not say "dense".
// - Every op runs on the backend's own compute stream, in call order.
//
// Letters: N rows (tokens), I inputs, O outputs, D decoder width, C vision width, H query heads, G
// key/value heads, E head width, F feed-forward width, V vocabulary, R labelled rows, P patches of
// an image.
#pragma once

#include <cstdint>
#include <span>

#include "device/memory_resource.h"
#include "device/tensor.h"
#include "ops/attention_plan.h"
#include "ops/operator_list.h"

namespace facet {

// x*sigmoid(1.702x); x*Phi(x) with erf; x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715x^3))).
enum class Activation : uint8_t { kQuickGelu, kGelu, kGeluTanh };

constexpr int64_t kFewRows = 32;  // the most that linear_few_rows_forward() takes

// One step as Hugging Face's AdamW (docs/computes.md, "Optimizer"). t counts from 1.
struct AdamWStep {
  // In double, so that 1 - beta and the bias corrections are right to the last bit of fp32.
  double learning_rate = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-6;
  double weight_decay = 0;
  float gradient_scale = 1;  // clip factor / loss scale, multiplied onto the gradient first
  int64_t t = 1;
};

// Sum of squares in double and the place of the first element that is not finite (-1: all are).
struct GradientStatistics {
  double sum_squares = 0;
  int64_t first_non_finite = -1;
};

// LoRA on the columns [begin, begin + O) of a linear layer's y.
struct LoraPart {
  int64_t begin = 0;
  Tensor u;            // (N,r)
  Tensor right, left;  // (I,r) and (r,O), dense
  // In backward alone: (N,r) in fp32 memory, and gradients like the matrices.
  Tensor du = {}, dright = {}, dleft = {};
  // Forward: u is there already, left by the operator that made x (LoraDown), and need not be
  // computed again. So of all parts or of none.
  bool has_u = false;
};

// LoRA's first product of what an operator makes, u (N,r) = output (N,I) right (I,r), on the output
// as it is stored.
struct LoraDown {
  Tensor u, right;
};

// The angles of a rotary embedding of width E, one row of them for each row that is turned: cos,
// sin (N,E/2) fp32. Undefined: nothing is turned.
struct Rotation {
  Tensor cos = {}, sin = {};

  bool defined() const { return cos.defined(); }
  int64_t width() const { return 2 * cos.cols(); }
};

// What was asked of a backend since it was made: for tests, `plan` and benchmarks.
struct OpCounts {
  int64_t calls = 0;
  int64_t matmul_flops =
      0;  // 2 * rows * inputs * outputs of every linear and LoRA product, DoRA's too
  int64_t attention_flops = 0;  // forward: 4 E per visible (query, key) and head; backward: 10 E
  int64_t attention_query_rows = 0;  // rows of q over all attention_forward calls
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Where the tensors are that it works on.
  virtual MemoryResource& memory() { return host_memory(); }

  const OpCounts& counts() const { return counts_; }

  // ---- beside the operators, for a host that runs ahead of its device. A backend whose operators
  // are done when they return need not do otherwise.

  // As copy_to_host, but *host is there only after finish_copies(), which waits for all of them
  // together. It must exist until then, or until drop_copies().
  virtual void copy_to_host_later(void* host, Tensor x) { copy_to_host(host, x); }
  virtual void finish_copies() {}
  virtual void drop_copies() {}

  // What micro-batches bring from the host may go to buffers of this memory that take turns:
  // next_inputs() says which one the next micro-batch has, of which operators until then may still
  // use the other. copy_input(y, host) is copy_from_host for y in the buffer whose turn it is, and
  // need not wait for the operators before it.
  static constexpr int kInputBuffers = 2;
  virtual MemoryResource& input_memory() { return memory(); }
  virtual int next_inputs() { return 0; }
  virtual void copy_input(Tensor y, const void* host) { copy_from_host(y, host); }

  // Between set_decoding(true) and set_decoding(false) linear_forward() need not have the bits that
  // it has in training: on the CPU it is faster then with the some hundred rows of a prompt.
  virtual void set_decoding(bool decodes) { (void)decodes; }

  // Whether the operators that make the inputs of layers with LoRA are to compute its first
  // products too, as they may then do while they have the input at hand.
  virtual bool takes_lora_downs() const { return false; }

  // ---- linear: y = x W' (+ bias) (+ residual)
  // y (N,O), x (N,I), weight (O,I), bias (O) or none, residual (N,O) or none; residual may be y
  // itself.
  void linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual);
  // The same for at most kFewRows rows, as in decoding: at the pace at which the weight is read. On
  // the CPU a row has the same bits whatever rows are beside it, and the weight may be of 16 bits
  // beside operands in fp32.
  void linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual);
  // dx (N,I) = dy (N,O) W
  void linear_backward_input(Tensor dx, Tensor dy, Tensor weight);
  void linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight);
  // dweight (O,I) += dy' x; dbias (O) += column sums of dy. Either may be absent.
  void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x);

  // ---- LoRA: y += scale (x R) L
  // y (N,O) accumulated, u (N,r) = x R (saved for backward), x (N,I), right (I,r), left (r,O),
  // dense weights.
  void lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                               float scale);
  // du (N,r) = scale dy L'; dleft += scale u' dy and dx (N,I) += du R', which may be absent, and u
  // without dleft. How du is written in its memory is the backend's own affair.
  void lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy, Tensor u,
                                      Tensor right, Tensor left, float scale);
  // dright += x' du of every part that has it, with du as the backend left it.
  void lora_backward_right(Tensor x, std::span<const LoraPart> parts);

  // ---- both: a linear layer with LoRA on some or all of its outputs, all of one rank
  // y (N,O) = x W' (+ bias) (+ residual), += scale (x R) L in the columns of each part; residual
  // may be y itself. In 16 bits y and dx may be rounded between LoRA's product and the other. Parts
  // are in the order of their columns, which do not overlap. With a rotation, and then without a
  // residual, the heads in y's first columns are turned after that: the bits of rope_forward() over
  // them.
  void lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual,
                           std::span<const LoraPart> parts, float scale,
                           const Rotation& rotation = {}, int64_t rotated_heads = 0);
  // du and dleft of each part as in lora_backward_input_accumulate(); dx (N,I) = dy W + the parts'
  // du R', may be absent.
  void lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                  std::span<const LoraPart> parts, float scale);

  // ---- DoRA: the rows of W + scale (R L)' at a magnitude that is learned; z = x (W + scale (R
  // L)')' norm (O) = the L2 norms of the rows of weight (O,I) + scale (right (I,r) left (r,O))',
  // which is nowhere in memory.
  void dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left, float scale);
  // y (N,O) = z (N,O) magnitude/norm (+ bias) (+ residual); magnitude, bias (O), norm (O) fp32;
  // residual may be y itself. A row of weights that is 0 has no direction: its magnitude/norm is 0.
  void dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                    Tensor residual);
  // dz (N,O) = dy magnitude/norm; dmagnitude (O) += column sums of dy z / norm (may be absent). The
  // norm counts as a constant.
  void dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z, Tensor magnitude,
                     Tensor norm);

  // ---- norms
  // y = x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps); y, x (N,D), rstd (N), weight (D).
  // And the u of each of `downs`.
  void rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                        std::span<const LoraDown> downs = {});
  // dx (N,D) = gradient of the norm + dresidual (N,D; may be absent, may be dx itself); dweight (D)
  // += (may be absent); y (N,D; may be absent, may be dy itself) = the norm's output again, with
  // the bits that it had.
  void rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x, Tensor weight,
                         Tensor rstd, Tensor dresidual);
  // y = (x - mean) * rstd * weight + bias, biased variance; mean, rstd (N).
  void layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight, Tensor bias,
                          float eps);
  void layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                           Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual);

  // ---- token-wise activations
  // gate_up (N,2F): columns [0,F) gate, [F,2F) up; act (N,F) = silu(gate) * up. And the u of each
  // of `downs`.
  void swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs = {});
  // act (may be absent, may be dact itself): the output again, with the bits that it had.
  void swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up);
  // y (N,F) = activation(x); dx may be dy itself.
  void gelu_forward(Tensor y, Tensor x, Activation activation);
  void gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation);

  // ---- rotary embedding, half-split layout, in place
  // x (N, heads*E): for c < E/2: (a,b) = (x[c], x[c+E/2]) -> (a cos - b sin, b cos + a sin); cos,
  // sin (N,E/2).
  void rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads);
  // The transposed rotation, in place on dx.
  void rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads);

  // ---- attention over a work list
  // out (Nq,H*E), lse (statistics,H,Nq) dense, q (Nq,H*E), k, v (Nk,G*E), H a multiple of G. lse
  // entries without a softmax part are undefined. Every row of out is written, also rows that see
  // nothing (0). On the CPU k and v may be of 16 bits beside the others in fp32.
  //
  // Only with plan.num_slots == 2: out_part (Nq,H*E), of the parts that a row has in a head the
  // smaller by its norm, and in the third statistic its slot; 0 and -1 for rows without a part. So
  // backward has each part to the precision of its own size: the other is what remains of out.
  void attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k, Tensor v,
                         const AttentionPlan& plan, int64_t heads, int64_t kv_heads, float scale);
  // dq, dk, dv are overwritten (rows that nobody sees become 0). dq and dk are rounded and then
  // turned back as by rope_backward() with q_rotation (Nq) and k_rotation (Nk): gradients of what
  // rope_forward() made q and k from. Either rotation may be undefined.
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                          Tensor v, Tensor out, Tensor out_part, Tensor lse,
                          const Rotation& q_rotation, const Rotation& k_rotation,
                          const AttentionPlan& plan, int64_t heads, int64_t kv_heads, float scale);

  // ---- embeddings and row movement
  // Splice: x (N,D); source (N) int32: s >= 0 takes row s of embed (V,D), s < 0 takes row -1-s of
  // image (M,D; may be absent where no source names it).
  void splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source);
  // dembed (V,D) += rows of dx by token (may be absent), dimage (M,D) overwritten (may be absent);
  // each image row has exactly one place. Sums run in a fixed order, on the CPU that of N.
  void splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source);
  // y (R,D) = rows index[r] of x (N,D); index (R) int32.
  void gather_rows_forward(Tensor y, Tensor x, Tensor index);
  // dx (N,D) = 0, then row index[r] = dy row r; indices are distinct.
  void gather_rows_backward(Tensor dx, Tensor dy, Tensor index);
  // y (copies*M,D) = x (M,D) repeated.
  void repeat_rows_forward(Tensor y, Tensor x, int64_t copies);
  // dx (M,D) = sum over the copies of dy, in order.
  void repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies);
  // y (copies*M,D) = x (copies*M,D) + row (M,D) repeated; y may be x.
  void add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows);
  // drows (M,D) += sum over the copies of dy.
  void add_repeated_rows_backward(Tensor drows, Tensor dy);

  // ---- vision embeddings
  // patches (I*P, 3*p*p) dense: row = image, then patch row-major; columns (channel, y, x). pixels
  // (I,3,R,R) dense.
  void patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size);
  // x (I*(1+P),C) = [class (C); patch (I*P,C)] + position (1+P,C)
  void vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding, Tensor position);
  // dpatch (I*P,C) overwritten; dclass (C), dposition (1+P,C) accumulated, either may be absent.
  void vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx);
  // Bicubic resize of a square grid of vectors (a = -0.75, half-pixel centres, clamped border, no
  // antialias): out (h*h,C) from in (g*g,C). As torch.nn.functional.interpolate(mode="bicubic",
  // align_corners=False).
  void resize_positions_forward(Tensor out, Tensor in);
  // din (g*g,C) += the transposed map of dout.
  void resize_positions_backward_accumulate(Tensor din, Tensor dout);

  // ---- loss
  // row_loss (R) = -log softmax(logits)[label]; logits (R,V), labels (R) int32.
  void cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels);
  // Also turns logits in place into gradient_scale * (softmax - onehot).
  void cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                      float gradient_scale);

  // ---- plain values
  void fill(Tensor x, float value);
  // Same shape, row strides may differ. Between fp32 and a 16-bit type the values are converted.
  void copy(Tensor y, Tensor x);
  void add_accumulate(Tensor y, Tensor x);  // y += x
  // y (C) fp32 = the rows of x (R,C), fp32 or 16 bits, added in fp32 in their order, R > 0;
  // _accumulate: y += that sum.
  void sum_rows(Tensor y, Tensor x);
  void sum_rows_accumulate(Tensor y, Tensor x);
  void copy_from_host(Tensor y, const void* host);
  void copy_to_host(void* host, Tensor x);
  // Sum of x, dense, in double, in a fixed order.
  double sum(Tensor x);

  // ---- optimizer
  // One pass over dense fp32 ranges of equal length: g *= gradient_scale; m, v, p updated; then p
  // -= lr*wd*p. copy (bf16 or fp16, may be absent): the new p, rounded.
  void adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                  const AdamWStep& step);
  // statistics[i] of the dense fp32 vector grads[i]: of all in one operator, because the host waits
  // for the device to bring them.
  void gradient_statistics(std::span<GradientStatistics> statistics, std::span<const Tensor> grads);
  GradientStatistics gradient_statistics(Tensor grad) {
    GradientStatistics statistics;
    gradient_statistics({&statistics, 1}, {&grad, 1});
    return statistics;
  }

 protected:
  // One for each operator above. Operands have been checked.
  FACET_OPERATORS(FACET_DEMAND_OPERATOR)

  // The rotations of attention_backward() as passes of their own, where it does not turn what it
  // stores.
  void turn_back(Tensor dq, Tensor dk, const Rotation& q_rotation, const Rotation& k_rotation,
                 int64_t heads, int64_t kv_heads);
  // The rotation of lora_linear_forward() as a pass of its own, where it does not turn what it
  // stores.
  void turn_heads(Tensor y, const Rotation& rotation, int64_t heads);

 private:
  // Every op counts itself once by one of these.
  void count_call() { ++counts_.calls; }
  // Of `work` multiply-adds a row.
  void count_products(int64_t rows, int64_t work);
  void count_attention_forward(const AttentionPlan& plan, const Tensor& q, int64_t heads);
  void count_attention_backward(const AttentionPlan& plan, const Tensor& q, int64_t heads);

  OpCounts counts_;
};

// A backend decodes as long as this exists.
class DecodingScope {
 public:
  explicit DecodingScope(Backend& ops) : ops_(ops) { ops_.set_decoding(true); }
  ~DecodingScope() { ops_.set_decoding(false); }
  DecodingScope(const DecodingScope&) = delete;
  DecodingScope& operator=(const DecodingScope&) = delete;

 private:
  Backend& ops_;
};

}  // namespace facet
