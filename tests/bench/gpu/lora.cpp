// The linear layers of the reference configuration's decoder with LoRA of rank 16: cuBLASLt's
// product and the adapters' passes, beside the one product of --lora_products fused. Those of q, k
// and v also with the rotation of q and k, which is a pass of its own but in the fused product. And
// SwiGLU with LoRA's first product of what it makes, in two passes and in one.
#include <fmt/format.h>

#include <functional>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/on_device.h"
#include "tests/bench/gpu/random_values.h"
#include "tests/bench/gpu/sections.h"

namespace facet::bench {
namespace {

struct Layer {
  const char* name;
  int64_t rows, inputs, outputs, parts, rank;  // outputs of each part
  int64_t head_width;                          // of q and k, 0 in other layers
};

std::vector<Layer> layers(Scale scale) {
  if (scale == Scale::kTiny)
    return {{"q, k, v", 24, 64, 64, 3, 8, 64}, {"down", 24, 72, 64, 1, 8, 0}};
  return {{"q, k, v", 8192, 4096, 4096, 3, 16, 128},
          {"out", 8192, 4096, 4096, 1, 16, 0},
          {"gate, up", 8192, 4096, 11008, 2, 16, 0},
          {"down", 8192, 11008, 4096, 1, 16, 0}};
}

class Operands {
 public:
  Operands(Bench& bench, const RandomValues& random, const Layer& l)
      : bench_(bench),
        arena_("LoRA", bytes_of(l), bench.ops.memory()),
        x_(matrix(random, l.rows, l.inputs)),
        weight_(matrix(random, l.parts * l.outputs, l.inputs)),
        y_(matrix(random, l.rows, l.parts * l.outputs)),
        dx_(matrix(random, l.rows, l.inputs)) {
    if (l.head_width > 0) {
      rotation_ = {sums(l.rows, l.head_width / 2), sums(l.rows, l.head_width / 2)};
      heads_ = 2 * l.outputs / l.head_width;
    }
    for (int64_t part = 0; part < l.parts; ++part)
      parts_.push_back({part * l.outputs, matrix(random, l.rows, l.rank),
                        matrix(random, l.inputs, l.rank), matrix(random, l.rank, l.outputs),
                        arena_.tensor({l.rows, l.rank}), sums(l.inputs, l.rank),
                        sums(l.rank, l.outputs)});
  }

  void linear() { bench_.ops.linear_forward(y_, x_, weight_, Tensor(), Tensor()); }
  void forward() { bench_.ops.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1); }
  void linear_and_rotation() {
    linear();
    bench_.ops.rope_forward(y_.column_block(0, heads_ * rotation_.width()), rotation_.cos,
                            rotation_.sin, heads_);
  }
  void forward_and_rotation() {
    bench_.ops.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1, rotation_,
                                   heads_);
  }
  void linear_backward() { bench_.ops.linear_backward_input(dx_, y_, weight_); }
  void backward() {
    bench_.ops.lora_linear_backward_input(dx_, y_, weight_, parts_, 1);
    bench_.ops.lora_backward_right(x_, parts_);
  }

 private:
  static int64_t bytes_of(const Layer& l) {
    const int64_t outputs = l.parts * l.outputs;
    return 2 * (2 * l.rows * l.inputs + outputs * l.inputs + l.rows * outputs) +
           8 * l.parts * l.rank * (l.rows + l.inputs + l.outputs) + 4 * l.rows * l.head_width +
           4096;
  }
  Tensor matrix(const RandomValues& random, int64_t rows, int64_t cols) {
    const Tensor x = arena_.tensor({rows, cols}, DType::kBF16);
    random.fill(x.view({rows * cols}));
    return x;
  }
  Tensor sums(int64_t rows, int64_t cols) {
    const Tensor x = arena_.tensor({rows, cols});
    bench_.ops.fill(x, 0);
    return x;
  }

  Bench& bench_;
  Arena arena_;
  const Tensor x_, weight_, y_, dx_;
  std::vector<LoraPart> parts_;
  Rotation rotation_;
  int64_t heads_ = 0;
};

void measure(Bench& bench, CudaBackend& gpu, const RandomValues& random, const Layer& layer,
             bool is_there) {
  Operands operands(bench, random, layer);
  const auto ms = [&](bool joins, void (Operands::*call)()) {
    if (joins && !is_there) return 0.0;
    gpu.join_lora(joins);
    const double taken = milliseconds_of(bench.clock, bench.limits, [&] { (operands.*call)(); });
    gpu.join_lora(false);
    return taken;
  };
  const auto row = [&](const char* way, void (Operands::*linear)(), void (Operands::*with_lora)()) {
    const double fused = ms(true, with_lora);
    const double flops = 2.0 * static_cast<double>(layer.rows * layer.inputs) *
                         static_cast<double>(layer.parts * layer.outputs);
    const double rate = fused > 0 ? flops / (fused * 1e-3) : 0;
    bench.report.row("linear with LoRA", {{"layer", layer.name},
                                          {"way", way},
                                          {"linear_ms", ms(false, linear)},
                                          {"separate_ms", ms(false, with_lora)},
                                          {"fused_ms", fused},
                                          {"fused_TFLOP/s", rate * 1e-12},
                                          {"fused_%", percent(rate, bench.rates.product)}});
  };
  row("forward", &Operands::linear, &Operands::forward);
  if (layer.head_width > 0)
    row("forward, rotated", &Operands::linear_and_rotation, &Operands::forward_and_rotation);
  row("backward", &Operands::linear_backward, &Operands::backward);
}

void measure_swiglu(Bench& bench, CudaBackend& gpu, const RandomValues& random, const Layer& down) {
  const int64_t elements = 3 * down.rows * down.inputs + (down.rows + down.inputs) * down.rank;
  Arena arena("SwiGLU", 2 * elements + 4096, bench.ops.memory());
  const auto matrix = [&](int64_t rows, int64_t cols) {
    const Tensor x = arena.tensor({rows, cols}, DType::kBF16);
    random.fill(x.view({rows * cols}));
    return x;
  };
  const Tensor gate_up = matrix(down.rows, 2 * down.inputs), act = matrix(down.rows, down.inputs);
  const LoraDown lora{matrix(down.rows, down.rank), matrix(down.inputs, down.rank)};
  const auto ms = [&](const auto& call) {
    return milliseconds_of(bench.clock, bench.limits, call);
  };
  const double alone = ms([&] { gpu.swiglu_forward(act, gate_up); });
  const double separate = ms([&] { gpu.swiglu_forward(act, gate_up, {&lora, 1}); });
  const double fused = ms([&] {
    cuda::swiglu_lora_forward(cuda::on_device(act), cuda::on_device(gate_up),
                              cuda::on_device(lora.u), cuda::on_device(lora.right), gpu.stream());
  });
  const double rate = 2.0 * static_cast<double>(elements) / (fused * 1e-3);
  bench.report.row("SwiGLU with LoRA", {{"alone_ms", alone},
                                        {"separate_ms", separate},
                                        {"fused_ms", fused},
                                        {"fused_GB/s", rate * 1e-9},
                                        {"fused_%", percent(rate, bench.rates.copy)}});
}

}  // namespace

void measure_lora(Bench& bench) {
  auto& gpu = static_cast<CudaBackend&>(bench.ops);
  const bool is_there = cuda::has_lora_product();
  if (!is_there) fmt::print("the GPU or the program has no product with LoRA: fused_ms is 0\n");
  const RandomValues random(bench.ops, 0.1f);
  for (const Layer& layer : layers(bench.scale)) measure(bench, gpu, random, layer, is_there);
  measure_swiglu(bench, gpu, random, layers(bench.scale).back());
}

}  // namespace facet::bench
