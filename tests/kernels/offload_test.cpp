// Copies between the host and the device beside the compute stream, and the optimizer's step that
// goes through them.
#include <gtest/gtest.h>

#include <cmath>

#include "device/arena.h"
#include "device/cuda/copy_streams.h"
#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "tests/kernels/mirrored.h"
#include "zero/offloaded_step.h"

namespace facet::kernel_test {
namespace {

using device_test::run_streams_at_once;
using device_test::run_streams_at_random;
using device_test::run_streams_late;

class OffloadTest : public testing::Test {
 protected:
  ~OffloadTest() override { run_streams_at_once(); }

  // What streams promise holds whenever their work runs.
  template <typename Body>
  static void whenever_streams_run(const Body& body) {
    run_streams_late();
    body();
    for (const uint64_t seed : {1, 2, 3}) {
      run_streams_at_random(seed);
      body();
    }
  }
};

TEST_F(OffloadTest, CopiesComeAfterTheComputationAndBeforeWhoWaits) {
  whenever_streams_run([] {
    CudaBackend cuda(kSmallSizes);
    CopyStreams copies(cuda.stream());
    Arena device("on the device", 4096, cuda.memory()), host("page-locked", 4096, copies.memory());
    const Tensor x = device.tensor({100}), y = host.tensor({100});
    for (int turn = 0; turn < 20; ++turn) {  // more often than there are events
      const auto number = static_cast<float>(turn);
      cuda.fill(x, number);
      copies.wait(copies.start_to_host(y, x));
      for (int i = 0; i < 100; ++i) ASSERT_EQ(y.f32()[i], number) << i;
      y.f32()[99] = number + 0.5f;
      cuda.fill(x, -1);
      copies.hold_compute(copies.start_to_device(x, y));
      EXPECT_EQ(cuda.sum(x), 100.0 * turn + 0.5) << turn;
    }
  });
}

// Two vectors in two steps, in chunks that divide neither.
void expect_the_steps_of_the_device(DType dtype) {
  CudaBackend cuda(kSmallSizes);
  CpuBackend cpu(1);
  CopyStreams copies(cuda.stream());
  constexpr int64_t kBytes = 1 << 16, kChunk = 96;
  Arena device("on the device", kBytes, cuda.memory());
  Arena host("page-locked", kBytes, copies.memory());
  OffloadedStep offloaded({&cpu, &copies}, dtype, 700, kChunk);
  const bool rounds = dtype != DType::kF32;
  struct Pair {
    OffloadedStep::Vectors on_host;
    Tensor param, exp_avg, exp_avg_sq, copy;  // on the device
  };
  std::vector<Pair> pairs;
  for (const int64_t n : {700, 130}) {
    Pair& pair = pairs.emplace_back();
    for (Tensor* x : {&pair.on_host.master, &pair.on_host.exp_avg, &pair.on_host.exp_avg_sq})
      *x = host.tensor({n});
    pair.on_host.value = device.tensor({n}, dtype);
    pair.on_host.grad = device.tensor({n});
    if (rounds) pair.copy = device.tensor({n}, dtype);
    for (Tensor* x : {&pair.param, &pair.exp_avg, &pair.exp_avg_sq}) *x = device.tensor({n});
    for (int64_t i = 0; i < n; ++i) pair.on_host.master.f32()[i] = std::sin(static_cast<float>(i));
    cuda.copy_from_host(pair.param, pair.on_host.master.raw());
    for (const Tensor& x : {pair.on_host.exp_avg, pair.on_host.exp_avg_sq}) cpu.fill(x, 0);
    for (const Tensor& x : {pair.exp_avg, pair.exp_avg_sq}) cuda.fill(x, 0);
  }
  for (const int64_t t : {1, 2}) {
    AdamWStep step;
    step.learning_rate = 0.1;
    step.weight_decay = 0.1;
    step.t = t;
    for (Pair& pair : pairs) {
      std::vector<float> grad(static_cast<size_t>(pair.param.numel()));
      for (size_t i = 0; i < grad.size(); ++i) grad[i] = std::cos(static_cast<float>(i * t));
      cuda.copy_from_host(pair.on_host.grad, grad.data());
      offloaded.run(pair.on_host, step);
      cuda.adamw_step(pair.param, pair.exp_avg, pair.exp_avg_sq, pair.copy, pair.on_host.grad,
                      step);
    }
    offloaded.finish();
    for (const Pair& pair : pairs) {
      const auto n = static_cast<size_t>(pair.param.numel());
      const auto bytes_of = [&](const Tensor& x) {
        std::vector<char> bytes(static_cast<size_t>(x.bytes()));
        cuda.copy_to_host(bytes.data(), x);
        return bytes;
      };
      EXPECT_EQ(bytes_of(pair.on_host.value), bytes_of(rounds ? pair.copy : pair.param)) << t;
      for (const auto& [on_host, on_device] : {std::pair{pair.on_host.master, pair.param},
                                               {pair.on_host.exp_avg, pair.exp_avg},
                                               {pair.on_host.exp_avg_sq, pair.exp_avg_sq}}) {
        const std::vector<char> bytes = bytes_of(on_device);
        EXPECT_EQ(std::memcmp(on_host.raw(), bytes.data(), n * sizeof(float)), 0) << n << " " << t;
      }
    }
  }
}

TEST_F(OffloadTest, TheHostTakesTheStepsOfTheDevice) {
  whenever_streams_run([] {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      expect_the_steps_of_the_device(dtype);
  });
}

}  // namespace
}  // namespace facet::kernel_test
