#include "device/arena.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "device/memory_advice.h"

namespace facet {
namespace {

TEST(Arena, MeasuresWhatTheRealOneThenHands) {
  Arena arena("test");
  {
    ArenaScope scope(arena);
    arena.tensor({3, 5});
    ArenaScope inner(arena);
    arena.tensor({7});
  }
  arena.tensor({2});
  EXPECT_EQ(arena.peak(), 64 + 64);
  arena.release(0);
  arena.allocate(arena.peak());
  Tensor a = arena.tensor({3, 5});
  Tensor b = arena.tensor({7});
  a.f32()[14] = 1;
  b.f32()[6] = 2;
  EXPECT_EQ(a.f32()[14], 1);
  EXPECT_THROW(arena.tensor({1}), Error);
}

TEST(Arena, AnotherSizeIsTakenOrNone) {
  const int64_t before = Arena::held();
  Arena arena("test", 640);
  arena.resize(6400);
  EXPECT_EQ(Arena::held(), before + 6400);
  arena.tensor({1500}).f32()[1499] = 1;
  arena.release(0);
  EXPECT_THROW(arena.resize(int64_t{1} << 60), Error);
  EXPECT_EQ(arena.capacity(), 6400);
  arena.resize(640);
  EXPECT_EQ(Arena::held(), before + 640);
  EXPECT_THROW(arena.tensor({1500}), Error);
}

TEST(Arena, SizesThatNoNumberOfBytesHasAreRefused) {
  Arena arena("test");
  arena.tensor({int64_t{1} << 58, 3});  // three quarters of 2^62 bytes
  for (const auto& [rows, cols] :
       {std::pair{int64_t{1} << 31, int64_t{1} << 31}, std::pair{int64_t{1} << 62, int64_t{4}},
        std::pair{int64_t{1} << 58, int64_t{2}}, std::pair{int64_t{-1}, int64_t{4}}}) {
    try {
      arena.tensor({rows, cols});
      ADD_FAILURE() << rows << " x " << cols;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig) << error.what();
    }
  }
}

// More than any address space holds.
TEST(Arena, WhereMemoryIsShortTheCommandsAdviceIsGiven) {
  const std::string usual = memory_advice();
  set_memory_advice("ask for less");
  try {
    Arena arena("test", int64_t{1} << 60);
    ADD_FAILURE() << "2^60 bytes were reserved";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("; ask for less"), std::string::npos) << error.what();
  }
  set_memory_advice(usual);
}

TEST(Arena, TheBytesOfAllAreCounted) {
  const int64_t before = Arena::held();
  {
    Arena first("first", 1 << 20), measuring("measuring");
    measuring.tensor({1 << 20});
    EXPECT_EQ(Arena::held() - before, 1 << 20);
    Arena second("second", 64);
    EXPECT_EQ(Arena::held() - before, (1 << 20) + 64);
  }
  EXPECT_EQ(Arena::held(), before);
  EXPECT_GE(Arena::most_held(), before + (1 << 20) + 64);
}

TEST(Tensor, ColumnBlocksKeepTheRowStride) {
  std::vector<float> data(12);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  Tensor x(data.data(), {3, 4}, DType::kF32);
  Tensor block = x.column_block(1, 2);
  EXPECT_EQ(block.row_stride(), 4);
  EXPECT_FALSE(block.dense());
  EXPECT_EQ(block.row_block(2, 1).f32()[0], 9);
  EXPECT_THROW(block.view({6}), Error);
  EXPECT_THROW(x.view({5}), Error);
  EXPECT_THROW(x.row_block(2, 2), Error);
  EXPECT_EQ(x.view({2, 6}).row_block(1, 1).f32()[0], 6);
}

}  // namespace
}  // namespace facet
