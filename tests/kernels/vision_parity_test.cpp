// The kernels of the vision tower's first layer against the CPU backend.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kImages = 2;

class VisionParity : public Parity {
 protected:
  ParityMatrix& rows(const std::string& name, int64_t rows, Role role) {
    return add(name, rows, d_, gap_, dtype_, role);
  }
};

TEST_P(VisionParity, PatchRows) {
  // n rows of columns are of no use here: a few images of 5 x 5 patches of 3 x 3 pixels
  // and a margin of 2.
  constexpr int64_t kSide = 5, kPatch = 3, kResolution = kSide * kPatch + 2;
  const int64_t patches = kImages * kSide * kSide, cols = 3 * kPatch * kPatch;
  ParityMatrix& pixels =
      vector("pixels", kImages * 3 * kResolution * kResolution, DType::kF32, Role::kIn);
  ParityMatrix& result = add("patches", patches, cols, 0, dtype_, Role::kOut);
  run_kernels([&] {
    cuda::patch_rows_forward(result.device(), pixels.device_f32(), kResolution, kPatch, stream_);
  });
  cpu().patch_rows_forward(
      result.host(), pixels.host_vector().view({kImages, 3, kResolution, kResolution}), kPatch);
  EXPECT_EQ(result.of_gpu(), result.of_cpu());
}

TEST_P(VisionParity, Embed) {
  const int64_t places = 1 + n_;
  ParityMatrix &x = rows("x", kImages * places, Role::kOut),
               &patch = rows("patch", kImages * n_, Role::kIn),
               &position = rows("position", places, Role::kIn);
  ParityMatrix& class_embedding = vector("class", d_, dtype_, Role::kIn);
  ParityMatrix &dx = rows("dx", kImages * places, Role::kIn),
               &dpatch = rows("dpatch", kImages * n_, Role::kOut);
  ParityMatrix& dclass = vector("dclass", d_, DType::kF32, Role::kInOut);
  ParityMatrix& dposition = add("dposition", places, d_, gap_, DType::kF32, Role::kInOut);
  run_kernels([&] {
    cuda::vision_embed_forward(x.device(), patch.device(), class_embedding.device(),
                               position.device(), stream_);
    cuda::vision_embed_backward(dpatch.device(), dclass.device_f32(), dposition.device(),
                                dx.device(), stream_);
  });
  cpu().vision_embed_forward(x.host(), patch.host(), class_embedding.host_vector(),
                             position.host());
  cpu().vision_embed_backward(dpatch.host(), dclass.host_vector(), dposition.host(), dx.host());
  EXPECT_EQ(x.of_gpu(), x.of_cpu());
  EXPECT_EQ(dpatch.of_gpu(), dpatch.of_cpu());
  // Sums of three numbers in fp32, in one order or another.
  EXPECT_LE(relative_error(dclass.of_gpu(), dclass.of_cpu()), 2 * op_test::kHalfUlp);
  EXPECT_LE(relative_error(dposition.of_gpu(), dposition.of_cpu()), 2 * op_test::kHalfUlp);
}

INSTANTIATE_TEST_SUITE_P(Sizes, VisionParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, VisionParity, testing::ValuesIn(real_cases({{256, 1024}})),
                         name_of_case);

}  // namespace
}  // namespace facet::kernel_test
