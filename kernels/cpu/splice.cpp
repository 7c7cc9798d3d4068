// Splices text and image embeddings. Row n of x (N,D) is row s of embed (V,D) if s = source[n] >=
// 0, else row -1-s of image (M,D); source (N) int32, x overwritten. Backward adds rows of dx to
// dembed (V,D) and overwrites the rows of dimage (M,D). Forward is parallel over rows, backward
// over columns.
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

// A wrong row would be read or written silently. Rows of an absent matrix are not used, so they are
// not checked.
template <typename Rows>
void check_sources(const int32_t* source_N, int64_t n, const Rows& embed, const Rows& image) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = source_N[i];
    ASSERT(s < 0 || !embed.data || s < embed.rows, "place {}: token {} of a vocabulary of {}", i, s,
           embed.rows);
    ASSERT(s >= 0 || !image.data || -1 - s < image.rows, "place {}: image row {} of {}", i, -1 - s,
           image.rows);
  }
}

}  // namespace

void CpuBackend::do_splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) {
  const ByteRows x_ND(x), embed_VD(embed), image_MD(image);
  const int32_t* source_N = source.i32();
  check_sources(source_N, x_ND.rows, embed_VD, image_MD);
  for_rows(x_ND.rows, x.cols(), [=](int64_t r) {
    const int64_t s = source_N[r];
    const char* from = s >= 0 ? embed_VD.row(s) : image_MD.row(-1 - s);
    std::memcpy(x_ND.row(r), from, static_cast<size_t>(x_ND.bytes));
  });
}

void CpuBackend::do_splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) {
  const Matrix dx_ND(dx), dembed_VD(dembed), dimage_MD(dimage);
  const int32_t* source_N = source.i32();
  check_sources(source_N, dx_ND.rows, dembed_VD, dimage_MD);
  // A token may occur many times; split by columns, no two threads add to the same element of
  // dembed.
  for_column_ranges(dx_ND.rows, dx_ND.cols, [=](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < dx_ND.rows; ++r) {
      const int64_t s = source_N[r];
      const float* from = dx_ND.row(r);
      if (s < 0) {
        if (dimage_MD.data)
          std::memcpy(dimage_MD.row(-1 - s) + begin, from + begin,
                      static_cast<size_t>(end - begin) * sizeof(float));
      } else if (dembed_VD.data) {
        float* to = dembed_VD.row(s);
#pragma omp simd
        for (int64_t c = begin; c < end; ++c) to[c] += from[c];
      }
    }
  });
}

}  // namespace facet
