#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

TEST(PatchRows, ColumnsAreChannelThenRowThenColumn) {
  const int64_t images = 2, side = 7, p = 3;  // a margin of one pixel
  Values pixels(static_cast<size_t>(images * 3 * side * side));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<double>(i);
  Matrix pixels_m(1, images * 3 * side * side, pixels), patches(images * 4, 3 * p * p);
  CpuBackend ops(2);
  ops.patch_rows_forward(patches.tensor(), pixels_m.tensor().view({images, 3, side, side}), p);
  for (int64_t image = 0; image < images; ++image)
    for (int64_t patch = 0; patch < 4; ++patch)
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t y = 0; y < p; ++y)
          for (int64_t x = 0; x < p; ++x)
            EXPECT_EQ(patches.at(image * 4 + patch, (c * p + y) * p + x),
                      static_cast<float>(((image * 3 + c) * side + patch / 2 * p + y) * side +
                                         patch % 2 * p + x));
}

class VisionEmbed : public testing::TestWithParam<int64_t> {
 protected:
  const int64_t images_ = GetParam(), patches_ = 7, tokens_ = 8, c_ = 97;
  const Values patch_ = random_values(images_ * patches_ * c_, "patch"),
               class_ = random_values(c_, "class"),
               position_ = random_values(tokens_ * c_, "position"),
               dx_ = random_values(images_ * tokens_ * c_, "dx");
  CpuBackend ops_{2};
};

TEST_P(VisionEmbed, ForwardPutsTheClassFirstAndAddsPositions) {
  Matrix patch(images_ * patches_, c_, patch_, 1), class_embedding(1, c_, class_),
      position(tokens_, c_, position_, 2), x(images_ * tokens_, c_, 3);
  ops_.vision_embed_forward(x.tensor(), patch.tensor(), class_embedding.vector(),
                            position.tensor());
  for (int64_t r = 0; r < images_ * tokens_; ++r)
    for (int64_t c = 0; c < c_; ++c) {
      const int64_t image = r / tokens_, token = r % tokens_;
      const float from =
          token == 0 ? class_embedding.at(0, c) : patch.at(image * patches_ + token - 1, c);
      ASSERT_EQ(x.at(r, c), from + position.at(token, c));
    }
}

TEST_P(VisionEmbed, BackwardIsTheAdjointAndAccumulatesParameters) {
  Matrix dx(images_ * tokens_, c_, dx_, 1), dpatch(images_ * patches_, c_, 2),
      dclass(1, c_, class_), dposition(tokens_, c_, position_);
  ops_.vision_embed_backward(dpatch.tensor(), dclass.vector(), dposition.tensor(), dx.tensor());
  Values dclass_expected = class_, dposition_expected = position_;
  for (int64_t r = 0; r < images_ * tokens_; ++r)
    for (int64_t c = 0; c < c_; ++c) {
      const int64_t image = r / tokens_, token = r % tokens_;
      const double d = dx_[static_cast<size_t>(r * c_ + c)];
      dposition_expected[static_cast<size_t>(token * c_ + c)] += d;
      if (token == 0)
        dclass_expected[static_cast<size_t>(c)] += d;
      else
        ASSERT_EQ(dpatch.at(image * patches_ + token - 1, c), static_cast<float>(d));
    }
  EXPECT_LE(relative_error(dclass.values(), dclass_expected), 2e-7);
  EXPECT_LE(relative_error(dposition.values(), dposition_expected), 2e-7);

  Matrix dpatch2(images_ * patches_, c_), dclass2(1, c_, class_),
      dposition2(tokens_, c_, position_);
  ops_.vision_embed_backward(dpatch2.tensor(), dclass2.vector(), Tensor(), dx.tensor());
  ops_.vision_embed_backward(dpatch2.tensor(), Tensor(), dposition2.tensor(), dx.tensor());
  EXPECT_TRUE(dclass2.same_bits(dclass));
  EXPECT_TRUE(dposition2.same_bits(dposition));
  EXPECT_TRUE(dpatch2.same_bits(dpatch));
}

INSTANTIATE_TEST_SUITE_P(Images, VisionEmbed, testing::Values(0, 1, 3, 40));

}  // namespace
}  // namespace facet::op_test
