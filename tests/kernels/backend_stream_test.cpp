// The CUDA backend's order of work: nothing but its stream and its events may be relied on.
#include <cmath>
#include <limits>

#include "kernels/cpu/backend.h"
#include "tests/kernels/operator_chain.h"

namespace facet::kernel_test {
namespace {

using device_test::run_streams_at_once;
using device_test::run_streams_at_random;
using device_test::run_streams_late;
using op_test::Operands;
using op_test::Values;

class LateStreams : public testing::Test {
 protected:
  ~LateStreams() override { run_streams_at_once(); }
};

TEST_F(LateStreams, ChangeNoBitOfAChainOfAllOperators) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    run_streams_at_once();
    CudaBackend first(kSmallSizes);
    const Chain at_once = run_chain(first, dtype);
    const auto expect_the_same = [&] {
      CudaBackend cuda(kSmallSizes);
      expect_equal(run_chain(cuda, dtype), at_once);
    };
    run_streams_late();
    expect_the_same();
    for (const uint64_t seed : {1, 2}) {
      run_streams_at_random(seed);
      expect_the_same();
    }
  }
}

// ---- numbers that come to the host

TEST_F(LateStreams, SumsAndGradientStatisticsAreAwaited) {
  run_streams_late();
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  CpuBackend cpu(1);
  for (const int64_t n : {0, 1, 97, 5000}) {
    std::vector<float> values = op_test::cast<float>(op_test::random_values(n, "values"));
    const Tensor x(values.data(), {n}, DType::kF32);
    EXPECT_NEAR(ops.sum(x), cpu.sum(x), 1e-12 * static_cast<double>(n)) << n;
    const GradientStatistics finite = ops.gradient_statistics(x);
    EXPECT_NEAR(finite.sum_squares, cpu.gradient_statistics(x).sum_squares,
                1e-13 * finite.sum_squares);
    EXPECT_EQ(finite.first_non_finite, -1);
    ops.finish();
    if (n < 97) continue;
    values[40] = std::numeric_limits<float>::infinity();
    EXPECT_EQ(ops.gradient_statistics(x).first_non_finite, 40);
    ops.finish();
  }
}

TEST_F(LateStreams, TheCallerMayReuseItsMemoryAtOnce) {
  run_streams_late();
  CudaBackend cuda(kSmallSizes);
  const DeviceBuffer<float> memory(64);
  const Tensor x(memory.data(), {64}, DType::kF32, Space::kDevice);
  std::vector<float> given(64, 3.0f), taken(64);
  cuda.copy_from_host(x, given.data());
  given.assign(64, -1.0f);
  cuda.copy_to_host(taken.data(), x);
  EXPECT_EQ(taken, std::vector<float>(64, 3.0f));
}

// ---- work lists of attention

struct Attention {
  static constexpr int64_t kRows = 12, kHeads = 2, kWidth = 8;
  Operands make{DType::kF32, DType::kBF16};
  Tensor out = make.out("out", kRows, kHeads*kWidth), q = make.in("q", kRows, kHeads*kWidth),
         k = make.in("k", kRows, kHeads*kWidth), v = make.in("v", kRows, kHeads*kWidth),
         lse = make.fp32_vector("lse", kHeads*kRows, Role::kOut);

  using Role = op_test::Role;
  void forward(Backend& ops, const AttentionPlan& plan) {
    ops.attention_forward(out, lse.view({1, kHeads, kRows}), Tensor(), q, k, v, plan, kHeads,
                          kHeads, 0.3f);
  }
  Values result() const { return make.outputs().at("out")->values(); }
};

Values on_cpu(const AttentionPlan& plan) {
  CpuBackend cpu(1);
  Attention attention;
  attention.forward(cpu, plan);
  return attention.result();
}

TEST_F(LateStreams, TheFirstPlanOfAProcessIsUploaded) {
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  AttentionPlan plan;
  Attention attention;
  make_causal_plan(plan, {0, 12});
  plan.version = 1;  // as if no other plan had been made
  attention.forward(ops, plan);
  EXPECT_EQ(cuda.attention_uploads(), 1);
  ops.finish();
  EXPECT_LE(op_test::relative_error(attention.result(), on_cpu(plan)), 1e-6);
}

TEST_F(LateStreams, APlanThatIsRemadeInPlaceIsAnotherOne) {
  run_streams_late();
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  AttentionPlan plan;
  Attention whole, halves, again;
  make_causal_plan(plan, {0, 12});
  const Values expected_whole = on_cpu(plan);
  whole.forward(ops, plan);
  make_causal_plan(plan, {0, 6, 12});
  halves.forward(ops, plan);
  const Values expected_halves = on_cpu(plan);
  make_full_plan(plan, 3, 4, 4);
  again.forward(ops, plan);
  const Values expected_again = on_cpu(plan);
  ops.finish();
  EXPECT_LE(op_test::relative_error(whole.result(), expected_whole), 1e-6);
  EXPECT_LE(op_test::relative_error(halves.result(), expected_halves), 1e-6);
  EXPECT_LE(op_test::relative_error(again.result(), expected_again), 1e-6);
}

TEST_F(LateStreams, APlanIsUploadedOnceForAllLayers) {
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  AttentionPlan decoder, vision;
  for (int batch = 1; batch <= 2; ++batch) {
    make_causal_plan(decoder, {0, 5, 12});
    make_full_plan(vision, 2, 6, 6);
    std::vector<std::unique_ptr<Attention>> layers;
    for (int layer = 0; layer < 3; ++layer)
      for (const AttentionPlan* plan : {&vision, &decoder}) {
        layers.push_back(std::make_unique<Attention>());
        layers.back()->forward(ops, *plan);
      }
    ops.finish();
    EXPECT_EQ(cuda.attention_uploads(), 2 * batch);
  }
}

// More plans than the backend keeps at once.
TEST_F(LateStreams, ManyPlansTakeTurns) {
  run_streams_at_random(3);
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  std::vector<AttentionPlan> plans(6);
  std::vector<std::unique_ptr<Attention>> calls;
  for (size_t i = 0; i < plans.size(); ++i)
    make_causal_plan(plans[i], {0, static_cast<int32_t>(1 + i), 12});
  for (int turn = 0; turn < 2; ++turn)
    for (const AttentionPlan& plan : plans) {
      calls.push_back(std::make_unique<Attention>());
      calls.back()->forward(ops, plan);
    }
  ops.finish();
  for (size_t i = 0; i < calls.size(); ++i)
    EXPECT_LE(op_test::relative_error(calls[i]->result(), on_cpu(plans[i % plans.size()])), 1e-6)
        << i;
}

}  // namespace
}  // namespace facet::kernel_test
