#include "kernels/cuda/backend.h"

#include <algorithm>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::check_one_shape, cuda::f32_on_device, cuda::on_device;

CudaBackend::CudaBackend(const CudaBackendSizes& sizes)
    : ring_(stream_, sizes.ring_bytes), products_(stream_, sizes.product_workspace_bytes) {}

// ---- copies

void CudaBackend::copy_from_host(Tensor y, const void* host) {
  count_call();
  const cuda::Operand to = on_device(y);
  const int64_t element = size_of(y.dtype());
  ring_.copy({to.data, to.stride * element, host, to.cols * element, to.rows});
}

void CudaBackend::copy_to_host(void* host, Tensor x) {
  count_call();
  const cuda::Operand from = on_device(x);
  const int64_t element = size_of(x.dtype());
  // Dense rows are one long row.
  const int64_t rows = x.dense() ? 1 : from.rows,
                row_bytes = x.bytes() / std::max<int64_t>(1, rows);
  for (int64_t r = 0; r < rows; ++r)
    check_cuda(cudaMemcpyAsync(static_cast<char*>(host) + r * row_bytes,
                               static_cast<const char*>(from.data) + r * from.stride * element,
                               static_cast<size_t>(row_bytes), cudaMemcpyDeviceToHost, stream_),
               "cannot copy to the host");
  synchronize();
}

void CudaBackend::copy(Tensor y, Tensor x) {
  count_call();
  const bool widens = y.dtype() == DType::kF32 && is_16_bit(x.dtype());
  const bool rounds = x.dtype() == DType::kF32 && is_16_bit(y.dtype());
  const bool moves = y.dtype() == x.dtype() && (is_16_bit(x.dtype()) || size_of(x.dtype()) == 4);
  ASSERT(widens || rounds || moves, "copy of {} into {}", name_of(x.dtype()), name_of(y.dtype()));
  check_one_shape({y, x});
  cuda::copy(on_device(y), on_device(x), stream_);
}

// ---- plain vectors

void CudaBackend::fill(Tensor x, float value) {
  count_call();
  cuda::fill(on_device(x), value, stream_);
}

void CudaBackend::add_accumulate(Tensor y, Tensor x) {
  count_call();
  check_one_shape({y, x});
  cuda::add_accumulate(on_device(y), on_device(x), stream_);
}

void CudaBackend::sum_rows(Tensor y, Tensor x) {
  count_call();
  ASSERT(y.numel() == x.cols() && x.rows() > 0, "rows of {} summed into {}", x.shape_string(),
         y.shape_string());
  cuda::sum_rows(f32_on_device(y), on_device(x), stream_);
}

void CudaBackend::sum_rows_accumulate(Tensor y, Tensor x) {
  count_call();
  ASSERT(y.numel() == x.cols() && x.rows() > 0, "rows of {} summed into {}", x.shape_string(),
         y.shape_string());
  cuda::sum_rows_accumulate(f32_on_device(y), on_device(x), stream_);
}

double CudaBackend::sum(Tensor x) {
  count_call();
  double* result = reduction_.take<double>(1 + cuda::kSumParts);
  cuda::sum(result, result + 1, on_device(x), stream_);
  double value;
  fetch(&value, result, sizeof value);
  return value;
}

void CudaBackend::fetch(void* host, const void* device, size_t bytes) {
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_),
             "cannot copy to the host");
  stream_.synchronize();
}

}  // namespace facet
