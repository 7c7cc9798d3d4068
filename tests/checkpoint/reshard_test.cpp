// A checkpoint of any number of ranks at any stage, in any precision, is loaded by any other: in
// one job, whose first 1, 2 and 4 ranks take turns. Run with 1, 2, 3 and 4 ranks
// (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <vector>

#include "base/half.h"
#include "tests/checkpoint/checkpoint_rig.h"
#include "tests/comm/first_ranks.h"

namespace facet {
namespace {

struct Shape {
  int ranks = 1;
  int64_t stage = 0;
  DType dtype = DType::kF32;
  std::string text() const { return fmt::format("{}-{}-{}", ranks, stage, name_of(dtype)); }
};

// To what layers see of fp32 masters.
std::vector<float> rounded(std::vector<float> values, DType dtype) {
  if (dtype != DType::kF32)
    for (float& value : values) value = float_from_16_bits(round_to_16_bits(value, dtype), dtype);
  return values;
}

class Reshard : public ::testing::Test {
 protected:
  std::vector<Shape> shapes() const {
    std::vector<Shape> all;
    for (const int ranks : {1, 2, 4})
      for (int64_t stage = 0; stage < 4; ++stage) all.push_back({ranks, stage, DType::kF32});
    all.push_back({1, 0, DType::kBF16});
    all.push_back({2, 3, DType::kF16});
    all.push_back({4, 1, DType::kF16});
    all.push_back({4, 2, DType::kBF16});
    std::erase_if(all, [&](const Shape& shape) { return shape.ranks > world_.size(); });
    return all;
  }
  MPI_Comm comm_of(const Shape& shape) const {
    return (shape.ranks == 1 ? one_ : shape.ranks == 2 ? two_ : four_).comm();
  }
  bool takes_part(const Shape& shape) const { return world_.rank() < shape.ranks; }
  std::string place(const Shape& shape) const { return directory_.path() + "/" + shape.text(); }

  Communicator world_{MPI_COMM_WORLD};
  FirstRanks one_{1}, two_{2}, four_{4};
  SharedDirectory directory_{world_};
};

TEST_F(Reshard, EveryShapeLoadsWhatEveryShapeSaved) {
  SmallRun straight(MPI_COMM_SELF);
  straight.take_steps(2);
  const std::string saved = straight.whole_state();
  const std::string text = manifest_state_text(straight.state);
  straight.take_steps(1);
  const std::string continued = straight.whole_state();
  const std::vector<float> values = straight.values_in_use();

  for (const Shape& shape : shapes()) {
    if (!takes_part(shape)) continue;
    SmallRun run(comm_of(shape), shape.stage, shape.dtype);
    run.take_steps(2);
    ASSERT_TRUE(run.whole_state() == saved) << shape.text();
    run.save(place(shape));
  }
  world_.sum(int64_t{0});
  for (const Shape& from : shapes())
    for (const Shape& to : shapes()) {
      if (!takes_part(to)) continue;
      SCOPED_TRACE(from.text() + " -> " + to.text());
      SmallRun run(comm_of(to), to.stage, to.dtype);
      ASSERT_FALSE(run.whole_state() == saved);
      const auto found = run.find(place(from));
      ASSERT_TRUE(found);
      EXPECT_TRUE(manifest_state_text(found->manifest.state) == text);
      run.load(*found);
      EXPECT_TRUE(run.whole_state() == saved);
      // Also what the others keep of it: they step on.
      run.take_steps(1);
      EXPECT_TRUE(run.whole_state() == continued);
      EXPECT_TRUE(run.values_in_use() == rounded(values, to.dtype));
    }
}

}  // namespace
}  // namespace facet
