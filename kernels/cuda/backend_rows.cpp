// What moves rows: splice, gather, repeat; the vision encoder's patches and positions.
#include <cstddef>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::f32_on_device, cuda::i32_on_device, cuda::on_device;

// ---- splice

void CudaBackend::do_splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) {
  cuda::splice_forward(on_device(x), on_device(embed), on_device(image), i32_on_device(source),
                       stream_);
}

void CudaBackend::do_splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) {
  if (dx.rows() == 0) return;
  void* workspace = nullptr;
  if (dembed.defined())
    workspace = splice_.take<std::byte>(cuda::splice_workspace_bytes(dx.rows(), dx.cols()));
  cuda::splice_backward(on_device(dembed), on_device(dimage), on_device(dx), i32_on_device(source),
                        workspace, stream_);
}

// ---- row movement

void CudaBackend::do_gather_rows_forward(Tensor y, Tensor x, Tensor index) {
  cuda::gather_rows_forward(on_device(y), on_device(x), i32_on_device(index), stream_);
}

void CudaBackend::do_gather_rows_backward(Tensor dx, Tensor dy, Tensor index) {
  cuda::gather_rows_backward(on_device(dx), on_device(dy), i32_on_device(index), stream_);
}

void CudaBackend::do_repeat_rows_forward(Tensor y, Tensor x, int64_t) {
  cuda::repeat_rows_forward(on_device(y), on_device(x), stream_);
}

void CudaBackend::do_repeat_rows_backward(Tensor dx, Tensor dy, int64_t) {
  cuda::repeat_rows_backward(on_device(dx), on_device(dy), stream_);
}

void CudaBackend::do_add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) {
  cuda::add_repeated_rows_forward(on_device(y), on_device(x), on_device(rows), stream_);
}

void CudaBackend::do_add_repeated_rows_backward(Tensor drows, Tensor dy) {
  cuda::add_repeated_rows_backward(on_device(drows), on_device(dy), stream_);
}

// ---- vision embeddings

void CudaBackend::do_patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) {
  cuda::patch_rows_forward(on_device(patches), f32_on_device(pixels), pixels.size(2), patch_size,
                           stream_);
}

void CudaBackend::do_vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                                          Tensor position) {
  cuda::vision_embed_forward(on_device(x), on_device(patch), on_device(class_embedding),
                             on_device(position), stream_);
}

void CudaBackend::do_vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition,
                                           Tensor dx) {
  if (dx.rows() == 0) return;
  cuda::vision_embed_backward(on_device(dpatch), f32_on_device(dclass), on_device(dposition),
                              on_device(dx), stream_);
}

void CudaBackend::do_resize_positions_forward(Tensor out, Tensor in) {
  cuda::resize_positions_forward(on_device(out), on_device(in), stream_);
}

void CudaBackend::do_resize_positions_backward_accumulate(Tensor din, Tensor dout) {
  cuda::resize_positions_backward_accumulate(on_device(din), on_device(dout), stream_);
}

}  // namespace facet
