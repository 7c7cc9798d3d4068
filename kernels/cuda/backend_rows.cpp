// What moves rows: splice, gather, repeat; the vision encoder's patches and positions.
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::check_one_shape, cuda::check_one_type, cuda::f32_on_device, cuda::i32_on_device,
    cuda::on_device;

namespace {

// Rows are moved as they are: equally long and of one type.
void check_moved(const Tensor& to, const Tensor& from) {
  ASSERT(to.dtype() == from.dtype() && to.cols() == from.cols(), "rows of {} {} moved to {} {}",
         name_of(from.dtype()), from.shape_string(), name_of(to.dtype()), to.shape_string());
}

// A gradient that is added to; absent ones fit.
cuda::Operand added_to(const Tensor& gradient) {
  ASSERT(!gradient.defined() || gradient.dtype() == DType::kF32, "a gradient {} of {}",
         gradient.shape_string(), name_of(gradient.dtype()));
  return on_device(gradient);
}

void check_repeated(const Tensor& all, const Tensor& rows) {
  ASSERT(all.cols() == rows.cols(), "{} repeated over {}", rows.shape_string(), all.shape_string());
  ASSERT(all.rows() == 0 || (rows.rows() > 0 && all.rows() % rows.rows() == 0),
         "{} repeated over {}", rows.shape_string(), all.shape_string());
}

}  // namespace

// ---- splice

void CudaBackend::splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) {
  count_call();
  for (const Tensor& rows : {embed, image})
    if (rows.defined()) check_moved(x, rows);
  ASSERT(source.numel() == x.rows(), "{} sources of {}", source.numel(), x.shape_string());
  cuda::splice_forward(on_device(x), on_device(embed), on_device(image), i32_on_device(source),
                       stream_);
}

void CudaBackend::splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) {
  count_call();
  if (dimage.defined()) check_moved(dimage, dx);
  ASSERT(!dembed.defined() || dembed.cols() == dx.cols(), "dembed {} of {}", dembed.shape_string(),
         dx.shape_string());
  ASSERT(source.numel() == dx.rows(), "{} sources of {}", source.numel(), dx.shape_string());
  cuda::splice_backward(added_to(dembed), on_device(dimage), on_device(dx), i32_on_device(source),
                        stream_);
}

// ---- row movement

void CudaBackend::gather_rows_forward(Tensor y, Tensor x, Tensor index) {
  count_call();
  check_moved(y, x);
  ASSERT(index.numel() == y.rows(), "{} indices for {}", index.numel(), y.shape_string());
  cuda::gather_rows_forward(on_device(y), on_device(x), i32_on_device(index), stream_);
}

void CudaBackend::gather_rows_backward(Tensor dx, Tensor dy, Tensor index) {
  count_call();
  check_moved(dx, dy);
  ASSERT(index.numel() == dy.rows(), "{} indices for {}", index.numel(), dy.shape_string());
  cuda::gather_rows_backward(on_device(dx), on_device(dy), i32_on_device(index), stream_);
}

void CudaBackend::repeat_rows_forward(Tensor y, Tensor x, int64_t copies) {
  count_call();
  check_moved(y, x);
  ASSERT(y.rows() == copies * x.rows(), "{} copies of {} rows into {}", copies, x.rows(), y.rows());
  cuda::repeat_rows_forward(on_device(y), on_device(x), stream_);
}

void CudaBackend::repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) {
  count_call();
  check_moved(dx, dy);
  ASSERT(dy.rows() == copies * dx.rows(), "{} copies of {} rows from {}", copies, dx.rows(),
         dy.rows());
  cuda::repeat_rows_backward(on_device(dx), on_device(dy), stream_);
}

void CudaBackend::add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) {
  count_call();
  check_one_type({y, x, rows});
  check_one_shape({y, x});
  check_repeated(y, rows);
  cuda::add_repeated_rows_forward(on_device(y), on_device(x), on_device(rows), stream_);
}

void CudaBackend::add_repeated_rows_backward(Tensor drows, Tensor dy) {
  count_call();
  check_repeated(dy, drows);
  cuda::add_repeated_rows_backward(added_to(drows), on_device(dy), stream_);
}

// ---- vision embeddings

void CudaBackend::patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) {
  count_call();
  const int64_t channels = pixels.size(1), side = pixels.size(2), p = patch_size;
  ASSERT(channels == 3 && pixels.size(3) == side && side % p == 0, "patches of {} from pixels {}",
         p, pixels.shape_string());
  const int64_t grid = side / p;
  ASSERT(patches.cols() == channels * p * p && patches.rows() == pixels.size(0) * grid * grid &&
             patches.dense(),
         "patches {} from pixels {}", patches.shape_string(), pixels.shape_string());
  cuda::patch_rows_forward(on_device(patches), f32_on_device(pixels), side, p, stream_);
}

void CudaBackend::vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                                       Tensor position) {
  count_call();
  check_one_type({x, patch, class_embedding, position});
  const int64_t tokens = position.rows();
  ASSERT(x.rows() % tokens == 0 && patch.rows() == x.rows() / tokens * (tokens - 1),
         "patches {} with {} positions into {}", patch.shape_string(), tokens, x.shape_string());
  ASSERT(class_embedding.numel() == x.cols() && patch.cols() == x.cols() &&
             position.cols() == x.cols(),
         "patches {} and positions {} into {}", patch.shape_string(), position.shape_string(),
         x.shape_string());
  cuda::vision_embed_forward(on_device(x), on_device(patch), on_device(class_embedding),
                             on_device(position), stream_);
}

void CudaBackend::vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx) {
  count_call();
  check_moved(dpatch, dx);
  if (dx.rows() == 0) return;
  const int64_t images = dx.rows() - dpatch.rows();  // one class row each
  ASSERT(images > 0 && dx.rows() % images == 0, "patches {} of {}", dpatch.shape_string(),
         dx.shape_string());
  if (dposition.defined()) check_repeated(dx, dposition);
  ASSERT(!dclass.defined() || dclass.numel() == dx.cols(), "dclass {} of {}", dclass.shape_string(),
         dx.shape_string());
  cuda::vision_embed_backward(on_device(dpatch), f32_on_device(dclass), added_to(dposition),
                              on_device(dx), stream_);
}

void CudaBackend::resize_positions_forward(Tensor out, Tensor in) {
  count_call();
  check_moved(out, in);
  cuda::resize_positions_forward(on_device(out), on_device(in), stream_);
}

void CudaBackend::resize_positions_backward_accumulate(Tensor din, Tensor dout) {
  count_call();
  ASSERT(din.cols() == dout.cols(), "positions {} from {}", din.shape_string(),
         dout.shape_string());
  cuda::resize_positions_backward_accumulate(added_to(din), on_device(dout), stream_);
}

}  // namespace facet
