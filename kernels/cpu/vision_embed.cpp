// Input of the vision encoder.
//
// patch_rows: patches (I*P,3*p*p), overwritten, from pixels (I,3,R,R): one row per patch, columns
// (channel, y, x). Parallel over patches.
// vision_embed: x (I*(1+P),C) = [class (C); patch (I*P,C)] + position (1+P,C), overwritten;
// parallel over rows. Backward overwrites dpatch (I*P,C) and adds to dclass (C) and dposition
// (1+P,C), over images in order; parallel over the 1+P positions.
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {

void CpuBackend::do_patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) {
  const int64_t channels = pixels.size(1), side = pixels.size(2), p = patch_size;
  const int64_t grid = side / p, columns = channels * p * p;
  const float* from = pixels.f32();
  float* to = patches.f32();
  for_rows(patches.rows(), columns, [=](int64_t row) {
    const int64_t image = row / (grid * grid), patch = row % (grid * grid);
    const int64_t top = patch / grid * p, left = patch % grid * p;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t y = 0; y < p; ++y)
        std::memcpy(to + row * columns + (c * p + y) * p,
                    from + ((image * channels + c) * side + top + y) * side + left,
                    static_cast<size_t>(p) * sizeof(float));
  });
}

void CpuBackend::do_vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                                         Tensor position) {
  const Matrix x_TC(x), patch_PC(patch), position_SC(position);
  const float* class_C = class_embedding.f32();
  const int64_t tokens = position_SC.rows, cols = x_TC.cols;
  for_rows(x_TC.rows, cols, [=](int64_t r) {
    const int64_t image = r / tokens, token = r % tokens;
    const float* from = token == 0 ? class_C : patch_PC.row(image * (tokens - 1) + token - 1);
    const float* add = position_SC.row(token);
    float* to = x_TC.row(r);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = from[c] + add[c];
  });
}

void CpuBackend::do_vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition,
                                          Tensor dx) {
  const Matrix dpatch_PC(dpatch), dposition_SC(dposition), dx_TC(dx);
  float* dclass_C = optional_f32(dclass);
  if (dx_TC.rows == 0) return;
  const int64_t images = dx_TC.rows - dpatch_PC.rows;  // one class row each
  const int64_t tokens = dx_TC.rows / images, cols = dx_TC.cols;
  for_rows(tokens, images * cols, [=](int64_t token) {
    for (int64_t image = 0; image < images; ++image) {
      const float* from = dx_TC.row(image * tokens + token);
      if (token > 0)
        std::memcpy(dpatch_PC.row(image * (tokens - 1) + token - 1), from,
                    static_cast<size_t>(cols) * sizeof(float));
      float* sums[] = {dposition_SC.data ? dposition_SC.row(token) : nullptr,
                       token == 0 ? dclass_C : nullptr};
      for (float* sum : sums) {
        if (!sum) continue;
#pragma omp simd
        for (int64_t c = 0; c < cols; ++c) sum[c] += from[c];
      }
    }
  });
}

}  // namespace facet
