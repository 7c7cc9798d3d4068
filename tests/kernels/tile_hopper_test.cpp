// Hopper's warpgroup products and copies of boxes against plain loops.
#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/rng.h"
#include "tests/device/cuda/hopper_device.h"
#include "tests/kernels/device_buffer.h"
#include "tests/kernels/tile_kernels_hopper.h"

namespace facet::kernel_test {
namespace {

constexpr int kRandomOrders = 2;
constexpr size_t kM = 64, kN = 128, kK = 64, kMostColumns = 256;

DType dtype_of(HalfType type) { return type == HalfType::kBF16 ? DType::kBF16 : DType::kF16; }

class Wgmma : public testing::TestWithParam<HalfType> {
 protected:
  void SetUp() override {
    if (!hopper_.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  }
  std::vector<uint16_t> random_halves(size_t n, const char* name) const {
    RandomStream stream(1, "tile_hopper_test", hash_name(name));
    std::vector<uint16_t> values(n);
    for (uint16_t& value : values)
      value = round_to_16_bits(static_cast<float>(stream.normal()), dtype_of(GetParam()));
    return values;
  }
  double value(uint16_t word) const { return float_from_16_bits(word, dtype_of(GetParam())); }

  // d (64,N) is start + the sum over k of a (64,64) times b_at(k, column), up to fp32 sums.
  template <typename At>
  void expect_product(const std::vector<float>& d, const std::vector<float>& start,
                      const std::vector<uint16_t>& a, const At& b_at) const {
    const size_t columns = d.size() / kM;
    for (size_t row = 0; row < kM; ++row)
      for (size_t col = 0; col < columns; ++col) {
        double sum = start[row * columns + col], size = std::abs(sum);
        for (size_t k = 0; k < kK; ++k) {
          const double term = value(a[row * kK + k]) * value(b_at(k, col));
          sum += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(d[row * columns + col], sum, (kK + 1) * 6e-8 * size) << row << ", " << col;
      }
  }

 private:
  const device_test::HopperDevice hopper_;
};

TEST_P(Wgmma, ReadsSwizzledTilesThatThreadsStored) {
  const auto a = random_halves(kM * kK, "a"), b = random_halves(kMostColumns * kK, "b");
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<uint16_t> from_a(a, stream), from_b(b, stream);
    for (const int columns : wgmma_columns()) {
      const size_t size = kM * static_cast<size_t>(columns);
      const DeviceBuffer<float> d(static_cast<int64_t>(size));
      wgmma_of_stored_tiles(d.data(), from_a.data(), from_b.data(), columns, GetParam(), stream);
      expect_product(d.download(stream), std::vector<float>(size, 0.0f), a,
                     [&](size_t k, size_t col) { return b[col * kK + k]; });
    }
  });
}

TEST_P(Wgmma, ReadsTilesWhoseRowsAreTermsOfTheSums) {
  const auto a = random_halves(kK * kM, "a"), b = random_halves(kK * kMostColumns, "b");
  std::vector<uint16_t> a_by_row(a.size());
  for (size_t row = 0; row < kM; ++row)
    for (size_t k = 0; k < kK; ++k) a_by_row[row * kK + k] = a[k * kM + row];
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<uint16_t> from_a(a, stream), from_b(b, stream);
    for (const int n : wgmma_columns()) {
      const auto columns = static_cast<size_t>(n);
      const DeviceBuffer<float> d(static_cast<int64_t>(kM * columns));
      wgmma_of_stored_rows(d.data(), from_a.data(), from_b.data(), n, GetParam(), stream);
      expect_product(d.download(stream), std::vector<float>(kM * columns, 0.0f), a_by_row,
                     [&](size_t k, size_t col) { return b[k * columns + col]; });
    }
  });
}

TEST_P(Wgmma, AddsProductsOfRegistersAndBoxes) {
  const auto a = random_halves(kM * kK, "a"), b = random_halves(kK * kN, "b");
  std::vector<float> start(kM * kN);
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<float>(i % 97) / 8 - 7;
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<uint16_t> from_a(a, stream), from_b(b, stream);
    const DeviceBuffer<float> from(start, stream), d(kM * kN);
    wgmma_of_boxes(d.data(), from_a.data(), from_b.data(), from.data(), GetParam(), stream);
    expect_product(d.download(stream), start, a,
                   [&](size_t k, size_t col) { return b[k * kN + col]; });
  });
}

INSTANTIATE_TEST_SUITE_P(Types, Wgmma, testing::Values(HalfType::kBF16, HalfType::kF16),
                         [](const auto& info) {
                           return info.param == HalfType::kBF16 ? "BF16" : "F16";
                         });

TEST(LoadBox, ARingOfBoxesCopiesEverySizeAndFillsWithZeros) {
  const device_test::HopperDevice hopper;
  if (!hopper.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  constexpr int64_t kCols = 64, kBoxRows = 32;
  for (const int64_t rows : {1, 31, 32, 97, 257})
    for_thread_orders(kRandomOrders, [rows] {
      std::vector<uint16_t> x(static_cast<size_t>(rows * kCols));
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i + 1);
      const int64_t whole = (rows + kBoxRows - 1) / kBoxRows * kBoxRows;
      const TestStream stream;
      const DeviceBuffer<uint16_t> from(x, stream), to(whole * kCols);
      copy_boxes_through_ring(to.data(), from.data(), rows, stream);
      x.resize(static_cast<size_t>(whole * kCols), 0);
      EXPECT_EQ(to.download(stream), x) << rows;
    });
}

TEST(Cluster, EachBlockFetchesForBoth) {
  const device_test::HopperDevice hopper;
  if (!hopper.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  constexpr int64_t kCols = 64, kStepRows = 16;
  for (const int64_t rows : {1, 16, 75}) {
    std::vector<uint16_t> x(static_cast<size_t>(rows * kCols));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i + 1);
    const int64_t whole = (rows + kStepRows - 1) / kStepRows * kStepRows;
    std::vector<uint16_t> copies;
    for (int copy = 0; copy < 4; ++copy) {
      copies.insert(copies.end(), x.begin(), x.end());
      copies.resize(static_cast<size_t>((copy + 1) * whole * kCols), 0);
    }
    const auto expect_copies = [&] {
      const TestStream stream;
      const DeviceBuffer<uint16_t> from(x, stream), to(4 * whole * kCols);
      copy_boxes_by_cluster(to.data(), from.data(), rows, stream);
      EXPECT_EQ(to.download(stream), copies) << rows;
    };
    for_thread_orders(kRandomOrders, expect_copies);
    for (const int block : {0, 1}) {
      device_test::delay_block(block);
      expect_copies();
    }
    device_test::set_thread_order(0);
  }
}

}  // namespace
}  // namespace facet::kernel_test
