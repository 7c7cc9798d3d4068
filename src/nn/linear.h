// Linear layers, plain or with LoRA (Hu et al., 2021): y = x W' + b + (x R) L alpha/r; with
// rank-stabilised LoRA (Kalajdzievski, 2023) the factor is alpha/sqrt(r).
//
// With DoRA (Liu et al., 2024) the rows of W + (R L)' alpha/r, with the norms n, are brought to the
// magnitudes m, which are trained: y = m/n (x W' + (x R) L alpha/r) + b. As in its section 4.3 and
// in PEFT, n is a constant in backward.
//
// PackedLinear joins linears with the same input (q, k, v; gate, up): if their weights are
// contiguous in the parameter buffer it is one matrix product over columns [part 0 | part 1 | ...],
// else, where only some of them are trained or their LoRA has several ranks or scales, one product
// per run of contiguous weights with one LoRA. In backward
// LoRA is an operator of its own where there are several runs, or where dx is added to.
#pragma once

#include <array>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

struct LoraConfig {
  int64_t rank = 0;  // 0: no LoRA
  float alpha = 1;
  std::string module_name;   // a linear gets LoRA if its module path contains this
  bool compat_init = false;  // bound 1/sqrt(r) instead of 1/sqrt(in) for R
  // Unless empty: the paths of the linears that get LoRA, in place of module_name.
  std::set<std::string, std::less<>> modules = {};
  bool rank_stabilised = false;
  bool dora = false;
  // Of the linears at these paths, in place of `rank` and `alpha`.
  struct Own {
    int64_t rank;
    float alpha;

    bool operator==(const Own&) const = default;
  };
  std::map<std::string, Own, std::less<>> own = {};

  Own of(const std::string& module_path) const {
    const auto found = own.find(module_path);
    return found == own.end() ? Own{rank, alpha} : found->second;
  }
  // Of (x R) L at this path. There must be a rank.
  float scale_of(const std::string& module_path) const;
  // Whether the linear at this module path (e.g. "model.layers.0.mlp.up_proj") gets LoRA.
  bool applies_to(const std::string& module_path) const {
    if (!modules.empty()) return rank > 0 && modules.contains(module_path);
    return rank > 0 && module_path.find(module_name) != std::string::npos;
  }
};

// The heads in the first columns of a layer's y, which a rotary embedding turns; each is within one
// part. The layer's backward has the gradient of y before that.
struct RotatedHeads {
  Rotation by = {};
  int64_t count = 0;
};

// LoRA's first products of a layer's parts, u = x R, with u in the arena. The operator that makes x
// computes those that of_maker() gives it, all or none; the layer computes the others.
struct LoraDowns {
  static constexpr size_t kMost = 3;  // q, k, v
  bool made = false;
  std::array<LoraDown, kMost> all = {};
  size_t count = 0;

  std::span<const LoraDown> of_maker() const { return {all.data(), made ? count : 0}; }
};

class PackedLinear {
 public:
  struct PartSpec {
    std::string path;  // module path under the root, e.g. "model.layers.0.self_attn.q_proj"
    Share outputs;     // that this rank computes
  };
  enum class Bias : uint8_t { kNone, kPresent };
  // Declares `root + path + ".weight"` (outputs, inputs), `.bias` (outputs) if requested,
  // `.lora_right_weight` (inputs, r) and `.lora_left_weight` (r, outputs) where `lora` applies to
  // the path; with DoRA also `.lora_magnitude_vector` (outputs). All weights first, then biases,
  // then LoRA's matrices, then magnitudes. `root` is the model's prefix with its dot, e.g.
  // "lang_decoder.". weight_init / bias_init: initialisation if no file provides them.
  //
  // Of shared outputs or inputs (nn/weight_sharing.h) it has this rank's rows or columns of the
  // matrices. A rank that shares inputs, evenly, has the whole bias; forward gives all ranks of the
  // group the whole sums, and keeps nothing for backward. Not with DoRA, whose norms are of whole
  // rows.
  PackedLinear(ParamTable& table, const std::string& root, const std::vector<PartSpec>& parts,
               Share inputs, Bias bias, const LoraConfig& lora, Init weight_init = Init::kNone,
               Init bias_init = Init::kNone);

  // Its linears [first, last) alone, of the same parameters.
  PackedLinear part(size_t first, size_t last) const;

  int64_t inputs() const { return inputs_.count; }
  int64_t outputs() const { return outputs_; }  // of all parts together

  // What backward needs besides x: u = x R of each part with LoRA; with DoRA in one of the parts,
  // for their columns, y before the magnitudes (N,outputs) and the norms (outputs).
  struct Saved {
    std::vector<Tensor> u;
    Tensor z, norm;
  };
  // For x of that many rows, before there is one. None in decoding, whose products are of other
  // kinds.
  LoraDowns downs(Context& ctx, int64_t rows) const;
  // y (N,outputs), x (N,inputs), residual (N,outputs) or none. `saved` may be null if no backward
  // follows. Without downs u is computed here. `rotated` are turned after all else: not with a
  // residual, and not of shared inputs.
  void forward(Context& ctx, Tensor y, Tensor x, Tensor residual, Saved* saved,
               const LoraDowns& downs = {}, const RotatedHeads& rotated = {}) const;
  // `saved` as forward would leave it, without computing y, where the downs are made and backward
  // needs no more of this layer; else false.
  bool save(const LoraDowns& downs, Saved& saved) const;
  // dx (N,inputs) overwritten or added to, absent if not needed; gradients of trained parameters
  // accumulated.
  enum class Dx : uint8_t { kOverwrite, kAdd };
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                Dx mode = Dx::kOverwrite) const;

  // The same in two steps, for an x that is there only after the first: dx, then the gradients of
  // parameters, except for magnitudes and LoRA's left factors, which are in the first. What the
  // second needs of the first is in the arena, and so is dy.
  struct Halfway {
    Tensor dy, dz;  // the gradients behind and before magnitudes and biases
    std::array<Tensor, LoraDowns::kMost> du;
  };
  Halfway backward_input(Context& ctx, Tensor dx, Tensor dy, const Saved& saved,
                         Dx mode = Dx::kOverwrite) const;
  void backward_weights(Context& ctx, const Halfway& halfway, Tensor x, const Saved& saved) const;

  bool has_lora() const;     // of at least one part
  bool any_trained() const;  // a weight, bias or LoRA matrix of it is trained

 private:
  explicit PackedLinear(Share inputs) : inputs_(inputs) {}

  struct Part {
    int64_t begin = 0, outputs = 0;  // its columns of y
    Param* weight = nullptr;
    Param* bias = nullptr;
    Param* right = nullptr;
    Param* left = nullptr;
    Param* magnitude = nullptr;
    float scale = 0;  // of LoRA's product
  };
  // Parts [first, last) whose weights, biases and magnitudes are one matrix in memory, equally
  // trained, and whose LoRA has one rank and one scale.
  struct Run {
    size_t first = 0, last = 0;
    int64_t begin = 0, outputs = 0;
    Tensor weight, bias, magnitude;
    Tensor dweight, dbias, dmagnitude;  // only if trained
  };
  Run run_from(size_t first) const;
  void multiply(Context& ctx, Tensor y, Tensor x, Tensor residual, Saved* saved,
                const LoraDowns& downs, const RotatedHeads& rotated) const;
  void add_up(Context& ctx, Tensor y, Tensor x, Tensor residual, const LoraDowns& downs) const;
  LoraDowns room_for_u(Context& ctx, int64_t rows) const;
  class LoraParts;  // those of one call
  LoraParts backward_parts(const Halfway& halfway, const Saved& saved) const;
  // Of LoRA's factors, whether one of a part is trained.
  bool trains(Param* Part::*factor) const;
  bool has_dora() const;
  void forward_with_lora(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& weight,
                         const Tensor& bias, const Tensor& added, const LoraParts& lora,
                         const RotatedHeads& rotated) const;
  // (run.outputs) of the rows of W + scale (R L)' of a run with magnitudes: in `own` unless the
  // context keeps them.
  Tensor norms_of(Context& ctx, const Tensor& own, const Run& run) const;
  static void add_weight_gradients(Context& ctx, const Run& run, const Tensor& dz, const Tensor& dy,
                                   const Tensor& x);
  // The gradient of y before magnitudes and biases: dy itself, or with DoRA in the arena. Adds to
  // the gradients of the magnitudes.
  Tensor before_magnitudes(Context& ctx, const Tensor& dy, const Saved& saved) const;

  std::vector<Part> parts_;
  Share inputs_;
  int64_t outputs_ = 0;
};

}  // namespace facet
