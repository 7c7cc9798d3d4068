// Tensor cores and asynchronous copies against plain loops.
#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/rng.h"
#include "tests/kernels/device_buffer.h"
#include "tests/kernels/tile_kernels.h"

namespace facet::kernel_test {
namespace {

constexpr int kRandomOrders = 2;

DType dtype_of(HalfType type) { return type == HalfType::kBF16 ? DType::kBF16 : DType::kF16; }

std::vector<uint16_t> random_halves(size_t n, HalfType type, const char* name) {
  RandomStream stream(1, "tile_test", hash_name(name));
  std::vector<uint16_t> values(n);
  for (uint16_t& value : values)
    value = round_to_16_bits(static_cast<float>(stream.normal()), dtype_of(type));
  return values;
}

class Mma : public testing::TestWithParam<HalfType> {
 protected:
  const HalfType type_ = GetParam();
  const std::vector<uint16_t> a_ = random_halves(16 * 16, type_, "a");
  const std::vector<uint16_t> b_ = random_halves(16 * 8, type_, "b");

  float value(const std::vector<uint16_t>& x, size_t i) const {
    return float_from_16_bits(x[i], dtype_of(type_));
  }
  // d (16,8) from the kernel is a b + c, up to fp32 sums of 17 terms.
  void expect_product(const std::vector<float>& d, const std::vector<float>& c) const {
    for (size_t row = 0; row < 16; ++row)
      for (size_t col = 0; col < 8; ++col) {
        double sum = c[row * 8 + col], size = std::abs(sum);
        for (size_t k = 0; k < 16; ++k) {
          const double term = double{value(a_, row * 16 + k)} * value(b_, k * 8 + col);
          sum += term;
          size += std::abs(term);
        }
        EXPECT_NEAR(d[row * 8 + col], sum, 17 * 6e-8 * size) << row << ", " << col;
      }
  }
};

TEST_P(Mma, ElementsAreWhereTheManualSays) {
  std::vector<float> c(16 * 8);
  for (size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(i) / 8 - 7;
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<uint16_t> a(a_, stream), b(b_, stream);
    const DeviceBuffer<float> from(c, stream), d(16 * 8);
    mma_by_elements(d.data(), a.data(), b.data(), from.data(), type_, stream);
    expect_product(d.download(stream), c);
  });
}

TEST_P(Mma, LdmatrixLoadsItsFragments) {
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<uint16_t> a(a_, stream), b(b_, stream);
    const DeviceBuffer<float> d(16 * 8);
    mma_by_ldmatrix(d.data(), a.data(), b.data(), type_, stream);
    expect_product(d.download(stream), std::vector<float>(16 * 8, 0.0f));
  });
}

TEST_P(Mma, PairsAreRoundedOnceAndStandInOrder) {
  std::vector<float> x(98);
  std::vector<uint16_t> expected;
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = 1.0f / (static_cast<float>(i) + 0.7f);
    expected.push_back(round_to_16_bits(x[i], dtype_of(type_)));
  }
  const TestStream stream;
  const DeviceBuffer<float> from(x, stream);
  const DeviceBuffer<uint16_t> to(static_cast<int64_t>(x.size()));
  round_pairs(to.data(), from.data(), static_cast<int>(x.size()), type_, stream);
  EXPECT_EQ(to.download(stream), expected);
}

INSTANTIATE_TEST_SUITE_P(Types, Mma, testing::Values(HalfType::kBF16, HalfType::kF16),
                         [](const auto& info) {
                           return info.param == HalfType::kBF16 ? "BF16" : "F16";
                         });

TEST(Ldmatrix, EveryRegisterHoldsItsTwoElements) {
  std::vector<uint16_t> x(32 * 8);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
  const TestStream stream;
  const DeviceBuffer<uint16_t> from(x, stream);
  const DeviceBuffer<uint32_t> to(32 * 8);
  ldmatrix_registers(to.data(), from.data(), stream);
  const auto y = to.download(stream);
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const unsigned row = lane / 4, col = lane % 4 * 2, base = matrix * 64;
      EXPECT_EQ(y[lane * 8 + matrix], (base + row * 8 + col) | (base + row * 8 + col + 1) << 16);
      EXPECT_EQ(y[lane * 8 + 4 + matrix], (base + col * 8 + row) | (base + (col + 1) * 8 + row)
                                                                       << 16);
    }
}

TEST(CpAsync, ARingOfTilesCopiesEverySize) {
  for (const int n : {1, 7, 97, 128, 257, 1025})
    for_thread_orders(kRandomOrders, [n] {
      std::vector<float> x(static_cast<size_t>(n));
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) + 1;
      const TestStream stream;
      const DeviceBuffer<float> from(x, stream), to(n);
      copy_through_ring(to.data(), from.data(), n, stream);
      EXPECT_EQ(to.download(stream), x) << n;
    });
}

}  // namespace
}  // namespace facet::kernel_test
