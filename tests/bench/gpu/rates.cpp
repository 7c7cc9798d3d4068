// The rates of the card.
#include "tests/bench/gpu/random_values.h"
#include "tests/bench/gpu/sections.h"

namespace facet::bench {
namespace {

// By the CUDA runtime; the operator that copies is beside it in the report.
double measure_copy(Bench& bench, const RandomValues& random) {
  const int64_t elements = bench.scale == Scale::kTiny ? 1 << 12 : int64_t{1} << 31;
  Arena arena("copied", 2 * elements * 2 + 128, bench.ops.memory());
  const Tensor from = arena.tensor({elements}, DType::kBF16),
               to = arena.tensor({elements}, DType::kBF16);
  random.fill(from);
  const auto rate_of = [&](const std::string& name, const std::function<void()>& call) {
    const double seconds = milliseconds_of(bench.clock, bench.limits, call) * 1e-3;
    const double rate = static_cast<double>(2 * from.bytes()) / seconds;
    bench.report.row("card", {{"what", name + ", GB/s"}, {"rate", rate * 1e-9}});
    return rate;
  };
  const double rate = rate_of("copy, read and written", [&] {
    check_cuda(cudaMemcpyAsync(to.raw(), from.raw(), static_cast<size_t>(from.bytes()),
                               cudaMemcpyDeviceToDevice, bench.stream),
               "cannot copy on the GPU");
  });
  rate_of("copy by our kernel", [&] { bench.ops.copy(to, from); });
  return rate;
}

double measure_product(Bench& bench, const RandomValues& random) {
  const int64_t n = bench.scale == Scale::kTiny ? 64 : 8192;
  Arena arena("product", 3 * n * n * 2 + 192, bench.ops.memory());
  const Tensor x = arena.tensor({n, n}, DType::kBF16), weight = arena.tensor({n, n}, DType::kBF16),
               y = arena.tensor({n, n}, DType::kBF16);
  random.fill(x.view({n * n}));
  random.fill(weight.view({n * n}));
  const double ms = milliseconds_of(bench.clock, bench.limits, [&] {
    bench.ops.linear_forward(y, x, weight, Tensor(), Tensor());
  });
  return 2.0 * static_cast<double>(n * n) * static_cast<double>(n) / (ms * 1e-3);
}

}  // namespace

Rates measure_rates(Bench& bench) {
  const RandomValues random(bench.ops, 1);
  Rates rates;
  rates.copy = measure_copy(bench, random);
  rates.product = measure_product(bench, random);
  bench.report.row("card", {{"what", "bf16 product, TFLOP/s"}, {"rate", rates.product * 1e-12}});
  return rates;
}

}  // namespace facet::bench
