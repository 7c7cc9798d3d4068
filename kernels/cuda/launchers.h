// The operators of ops/ops.h as kernel launches: outputs, inputs, scalars, stream. The formulas are
// there and in the .cu files; here a matrix is an Operand, and parameter gradients and statistics
// are dense fp32 vectors. Absent operands have null data. All matrices of one call have one type:
// fp32, bf16 or fp16.
#pragma once

#include <span>

#include "device/cuda/side_stream.h"
#include "device/cuda_runtime.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/decode_work.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

// ---- LoRA; linear layers are in linear.h. The parts of one call have one input and one rank.
// `multiprocessors` are those of the GPU, on which few rows are more launches.
struct LoraOperands {
  Operand y_NO;       // dy in backward; absent in forward if only u is wanted
  Operand addend_NO;  // in forward; may be y, or absent
  Operand u_Nr, right_Ir, left_rO;
  // In backward. The gradients are fp32, and either may be absent. du is fp32 too; with 16-bit
  // operands each number in its memory is two of that type instead, the upper halves of a row
  // before the lower ones.
  Operand du_Nr = {}, dright_Ir = {}, dleft_rO = {};
};
// Whether u is computed from x, or is there already and x is not read.
enum class LoraU : uint8_t { kComputed, kGiven };
void lora_forward(std::span<const LoraOperands> parts, Operand x_NI, float scale, LoraU u,
                  int multiprocessors, cudaStream_t stream);
// Of each part du and, where it is given, dleft, without which u is not read; and dx. That may be
// absent; its addend may be dx, or absent. `sums` is a workspace of lora_backward_floats().
void lora_backward_input(std::span<const LoraOperands> parts, Operand dx_NI, Operand addend_NI,
                         float scale, float* sums, int multiprocessors, cudaStream_t stream);
int64_t lora_backward_floats(std::span<const LoraOperands> parts);
// dright of each part that has it, with du from before.
void lora_backward_right(std::span<const LoraOperands> parts, Operand x_NI, cudaStream_t stream);

// ---- DoRA
void dora_row_norms(float* norm_O, Operand weight_OI, Operand right_Ir, Operand left_rO,
                    float scale, cudaStream_t stream);
void dora_forward(Operand y_NO, Operand z_NO, Operand magnitude_O, const float* norm_O,
                  Operand bias_O, Operand residual_NO, cudaStream_t stream);
// dmagnitude may be absent.
void dora_backward(Operand dz_NO, float* dmagnitude_O, Operand dy_NO, Operand z_NO,
                   Operand magnitude_O, const float* norm_O, cudaStream_t stream);

// ---- norms
void rms_norm_forward(Operand y_ND, float* rstd_N, Operand x_ND, Operand weight_D, float eps,
                      cudaStream_t stream);
// y may be absent, or dy.
void rms_norm_backward(Operand dx_ND, float* dweight_D, Operand y_ND, Operand dy_ND, Operand x_ND,
                       Operand weight_D, const float* rstd_N, Operand dresidual_ND,
                       cudaStream_t stream);
void layer_norm_forward(Operand y_ND, float* mean_N, float* rstd_N, Operand x_ND, Operand weight_D,
                        Operand bias_D, float eps, cudaStream_t stream);
void layer_norm_backward(Operand dx_ND, float* dweight_D, float* dbias_D, Operand dy_ND,
                         Operand x_ND, Operand weight_D, const float* mean_N, const float* rstd_N,
                         Operand dresidual_ND, cudaStream_t stream);

// ---- token-wise activations
void swiglu_forward(Operand act_NF, Operand gate_up_N2F, cudaStream_t stream);
// act may be absent, or dact.
void swiglu_backward(Operand dgate_up_N2F, Operand act_NF, Operand dact_NF, Operand gate_up_N2F,
                     cudaStream_t stream);
// swiglu_forward(), and LoRA's u (N,r) = act right (F,r), in one pass and with the bits of two: in
// 16 bits, of whole packs, ranks up to 64, and as many rows as give each multiprocessor some.
bool swiglu_lora_takes(const Operand& act_NF, const Operand& gate_up_N2F, const Operand& u_Nr,
                       const Operand& right_Fr, int multiprocessors);
void swiglu_lora_forward(Operand act_NF, Operand gate_up_N2F, Operand u_Nr, Operand right_Fr,
                         cudaStream_t stream);
void quick_gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream);
void quick_gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream);
void gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream);
void gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream);
void gelu_tanh_forward(Operand y_NF, Operand x_NF, cudaStream_t stream);
void gelu_tanh_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream);

// ---- rotary embedding, in place; cos, sin (N,E/2) fp32
void rope_forward(Operand x_ND, Operand cos_NE, Operand sin_NE, int64_t heads, cudaStream_t stream);
void rope_backward(Operand dx_ND, Operand cos_NE, Operand sin_NE, int64_t heads,
                   cudaStream_t stream);

// ---- embeddings; source (N) int32
void splice_forward(Operand x_ND, Operand embed_VD, Operand image_MD, const int32_t* source_N,
                    cudaStream_t stream);
// dembed is fp32 and accumulated, dimage is overwritten; either may be absent. Of one token at most
// kSpliceSegment rows are added one after the other; sums of such segments are then added in order.
constexpr int kSpliceSegment = 128;
void splice_backward(Operand dembed_VD, Operand dimage_MD, Operand dx_ND, const int32_t* source_N,
                     void* workspace, cudaStream_t stream);
// Of splice_backward with dembed, for dx (rows,cols); 16-byte aligned.
int64_t splice_workspace_bytes(int64_t rows, int64_t cols);

// ---- vision embeddings; pixels (images,3,R,R) dense fp32
void patch_rows_forward(Operand patches, const float* pixels, int64_t resolution,
                        int64_t patch_size, cudaStream_t stream);
void vision_embed_forward(Operand x, Operand patch, Operand class_embedding_C, Operand position,
                          cudaStream_t stream);
// dclass (C) and dposition (1+P,C) are fp32 and accumulated; either may be absent.
void vision_embed_backward(Operand dpatch, float* dclass_C, Operand dposition, Operand dx,
                           cudaStream_t stream);
// Grids are square; din and dout are fp32.
void resize_positions_forward(Operand out_NC, Operand in_MC, cudaStream_t stream);
void resize_positions_backward_accumulate(Operand din_MC, Operand dout_NC, cudaStream_t stream);

// ---- loss; labels (R) int32
void cross_entropy_forward(float* row_loss_R, Operand logits_RV, const int32_t* labels_R,
                           cudaStream_t stream);
void cross_entropy_forward_backward(float* row_loss_R, Operand logits_RV, const int32_t* labels_R,
                                    float gradient_scale, cudaStream_t stream);

// ---- attention over a work list; `lists` is in device memory. lse (statistics,H,Nq) and delta
// (slots,H,Nq) dense fp32; lse of a row in a mean part is the logarithm of its number of keys.
void attention_forward(Operand out_NqD, float* lse_SHN, Operand out_part_NqD, Operand q_NqD,
                       Operand k_NkD, Operand v_NkD, const AttentionLists& lists, int64_t heads,
                       int64_t kv_heads, float scale, cudaStream_t stream);
// Whether backward's kernels on tensor cores take heads of `width` columns, and the current GPU has
// the shared memory that a block of them needs: an A100 and a Hopper have it at every width,
// compute capabilities 8.6, 8.9 and 12 at 64 alone.
bool attention_backward_fits(int64_t width);
// Whether the current GPU has the shared memory for a joint backward, in which dq, dk and dv come
// out of one kernel, and whether it takes such heads and lists in 16 bits.
bool has_joint_attention();
bool joint_attention_takes(const AttentionLists& lists, int64_t width);
// Its workspace; null where it is not to be taken. Sizes are in elements.
struct JointWorkspace {
  float* sums = nullptr;
  int32_t* counters = nullptr;
};
int64_t attention_joint_sums(int64_t queries, int64_t heads);
int64_t attention_joint_counters(int64_t queries, int64_t heads);
// The angles of a rotary embedding, fp32; absent: nothing is turned.
struct Angles {
  Operand cos_NE = {}, sin_NE = {};  // (N,E/2)
};
// delta is a workspace. dk and dv are computed on `side`, beside dq on `stream`; a joint backward
// runs on `stream`. dq and dk are turned back by their angles, and have the bits that
// rope_backward() would leave.
void attention_backward(Operand dq_NqD, Operand dk_NkD, Operand dv_NkD, Operand dout_NqD,
                        Operand q_NqD, Operand k_NkD, Operand v_NkD, Operand out_NqD,
                        Operand out_part_NqD, const float* lse_SHN, float* delta_SHN,
                        const Angles& q_angles, const Angles& k_angles, const AttentionLists& lists,
                        int64_t heads, int64_t kv_heads, float scale, SideStream& side,
                        cudaStream_t stream, JointWorkspace joint = {});
// The same as attention_forward() over the work list of a plan with few queries, on a workspace of
// attention_decode_floats(). It takes heads of up to 128 columns whose rows are whole packs of 16
// bytes.
bool attention_decode_takes(Operand q_NqD, Operand k_NkD, Operand v_NkD, int64_t heads);
int64_t attention_decode_floats(const DecodeLists& lists, int64_t heads, int64_t width);
void attention_decode(Operand out_NqD, float* lse_SHN, Operand out_part_NqD, Operand q_NqD,
                      Operand k_NkD, Operand v_NkD, const DecodeLists& lists, float* workspace,
                      int64_t heads, int64_t kv_heads, float scale, cudaStream_t stream);

// ---- row movement; index (R) int32
void gather_rows_forward(Operand y_RD, Operand x_ND, const int32_t* index_R, cudaStream_t stream);
void gather_rows_backward(Operand dx_ND, Operand dy_RD, const int32_t* index_R,
                          cudaStream_t stream);
void repeat_rows_forward(Operand y_KD, Operand x_MD, cudaStream_t stream);
void repeat_rows_backward(Operand dx_MD, Operand dy_KD, cudaStream_t stream);
void add_repeated_rows_forward(Operand y_KD, Operand x_KD, Operand rows_MD, cudaStream_t stream);
// drows is fp32.
void add_repeated_rows_backward(Operand drows_MD, Operand dy_KD, cudaStream_t stream);

// ---- plain matrices
void fill(Operand x_ND, float value, cudaStream_t stream);
// Between any of the three types, each element rounded once; equal types are copied bit for bit.
void copy(Operand y_ND, Operand x_ND, cudaStream_t stream);
// y += x, of any of the three types each.
void add_accumulate(Operand y_ND, Operand x_ND, cudaStream_t stream);
// The rows of x added in fp32 in their order, with the same bits as on the CPU backend.
void sum_rows(float* y_C, Operand x_RC, cudaStream_t stream);
void sum_rows_accumulate(float* y_C, Operand x_RC, cudaStream_t stream);
constexpr int kSumParts = 256;
// The sum of all elements in double. The result and the workspace of kSumParts are in device
// memory.
void sum(double* result, double* parts, Operand x_ND, cudaStream_t stream);

// ---- optimizer, over dense fp32 vectors of n elements
// AdamWStep reduced to fp32 factors.
struct AdamWFactors {
  float rate, decay;  // learning rate with bias correction; learning rate times weight decay
  float beta1, beta2, rest1, rest2;  // rest = 1 - beta
  float eps, gradient_scale;
};
// copy (n) of bf16 or fp16, or absent: the new values, rounded.
void adamw_step(float* param_n, float* exp_avg_n, float* exp_avg_sq_n, Operand copy_n,
                const float* grad_n, int64_t n, const AdamWFactors& factors, cudaStream_t stream);

struct GradientPart {
  double sum_squares;
  int64_t first_non_finite;  // -1: all are finite
};
// A gradient, and which parts of the workspace are its.
struct GradientVector {
  const float* grad_n;
  int64_t n;
  int first_part, num_parts;
};
// The vector after `parts` of others.
GradientVector gradient_vector(const float* grad_n, int64_t n, int parts);
// Of `count` vectors with `parts` parts together; vectors, their results (count) and the workspace
// (parts) are in device memory.
void gradient_statistics(GradientPart* results, GradientPart* workspace,
                         const GradientVector* vectors, int count, int parts, cudaStream_t stream);

}  // namespace facet::cuda
