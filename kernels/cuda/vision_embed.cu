// Input of the vision encoder.
//
// patch_rows: patches (I*P,3*p*p), overwritten, from pixels (I,3,R,R): one row per patch, columns
// (channel, y, x).
// vision_embed: x (I*(1+P),C) = [class (C); patch (I*P,C)] + position (1+P,C), overwritten.
// Backward overwrites dpatch (I*P,C) and adds to dclass (C) and dposition (1+P,C), fp32, which are
// sums over images in order (add_repeated_rows_backward in rows.cu).
//
// All kernels are element-wise over packs of the output.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

constexpr int64_t kChannels = 3;

// patches (images*P, 3*p*p): row = image, then patch; columns (channel, y, x).
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    patch_rows_kernel(Rows<T> patches, const float* pixels, int64_t rows, int64_t resolution,
                      int64_t patch_size, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t side = divided(resolution, patch_size).whole;  // patches of a row of the image
  const int64_t area = patch_size * patch_size, cols = kChannels * area;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const auto [image, patch] = divided(r, side * side);
    const auto [patch_row, patch_col] = divided(patch, side);
    float v[kPack] = {};
    for (int i = 0; i < kPack && c + i < cols; ++i) {
      const auto [channel, within] = divided(c + i, area);
      const auto [y, x] = divided(within, patch_size);
      const int64_t line = (image * kChannels + channel) * resolution + patch_row * patch_size + y;
      v[i] = pixels[line * resolution + patch_col * patch_size + x];
    }
    store_floats(patches.row(r), v, c, cols, access);
  });
}

// x (images*(1+P),C) = [class; patches] + position
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    vision_embed_forward_kernel(Rows<T> x, Rows<const T> patch, const T* class_C,
                                Rows<const T> position, int64_t rows, int64_t places, int64_t cols,
                                RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const auto [image, place] = divided(r, places);
    const T* from = place == 0 ? class_C : patch.row(image * (places - 1) + place - 1);
    float v[kPack], added[kPack];
    load_floats(v, from, c, cols, access);
    load_floats(added, position.row(place), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] += added[i];
    store_floats(x.row(r), v, c, cols, access);
  });
}

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    patch_gradient_kernel(Rows<T> dpatch, Rows<const T> dx, int64_t rows, int64_t patches,
                          int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const auto [image, patch_of_image] = divided(r, patches);
    float v[kPack];
    load_floats(v, dx.row(image * (1 + patches) + 1 + patch_of_image), c, cols, access);
    store_floats(dpatch.row(r), v, c, cols, access);
  });
}

}  // namespace

void patch_rows_forward(Operand patches, const float* pixels, int64_t resolution,
                        int64_t patch_size, cudaStream_t stream) {
  if (patches.rows == 0) return;
  with_type(patches.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(patches.rows, patches.cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, patch_rows_kernel<T>,
                rows_of<T>(patches), pixels, patches.rows, resolution, patch_size,
                row_access({patches}));
  });
}

void vision_embed_forward(Operand x, Operand patch, Operand class_embedding_C, Operand position,
                          cudaStream_t stream) {
  if (x.rows == 0) return;
  with_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(x.rows, x.cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, vision_embed_forward_kernel<T>,
                rows_of<T>(x), rows_of<const T>(patch),
                static_cast<const T*>(class_embedding_C.data), rows_of<const T>(position), x.rows,
                position.rows, x.cols, row_access({x, patch, class_embedding_C, position}));
  });
}

void vision_embed_backward(Operand dpatch, float* dclass_C, Operand dposition, Operand dx,
                           cudaStream_t stream) {
  if (dx.rows == 0) return;
  const int64_t images = dx.rows - dpatch.rows, patches = dpatch.rows / images;
  with_type(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(dpatch.rows, dpatch.cols, kPackOf<T>));
    if (blocks == 0) return;
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, patch_gradient_kernel<T>,
                rows_of<T>(dpatch), rows_of<const T>(dx), dpatch.rows, patches, dpatch.cols,
                row_access({dpatch, dx}));
  });
  if (dposition.data) add_repeated_rows_backward(dposition, dx, stream);
  if (!dclass_C) return;
  // The first row of every image.
  const Operand dclass{dclass_C, 1, dx.cols, dx.cols, DType::kF32};
  const Operand firsts{dx.data, images, dx.cols, dx.stride * (1 + patches), dx.dtype};
  add_repeated_rows_backward(dclass, firsts, stream);
}

}  // namespace facet::cuda
