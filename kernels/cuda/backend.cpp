#include "kernels/cuda/backend.h"

#include <algorithm>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::f32_on_device, cuda::on_device;

namespace {

int multiprocessors() {
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), "cannot ask which GPU is used");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "cannot ask for the number of multiprocessors");
  return count;
}

}  // namespace

CudaBackend::CudaBackend(const CudaBackendSizes& sizes)
    : ring_(stream_, sizes.ring_bytes),
      uploads_(stream_, sizes.upload_bytes),
      products_(stream_, sizes.product_workspace_bytes),
      multiprocessors_(multiprocessors()) {}

// ---- copies

void CudaBackend::do_copy_from_host(Tensor y, const void* host) {
  const cuda::Operand to = on_device(y);
  const int64_t element = size_of(y.dtype());
  ring_.copy({to.data, to.stride * element, host, to.cols * element, to.rows});
}

void CudaBackend::do_copy_to_host(void* host, Tensor x) {
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

void CudaBackend::copy_to_host_later(void* host, Tensor x) {
  ASSERT(x.dense(), "rows {} apart are not copied later", x.row_stride());
  inbox_.copy(host, on_device(x).data, x.bytes());
}

void CudaBackend::copy_input(Tensor y, const void* host) {
  uploads_.copy(on_device(y).data, host, y.bytes());
}

void CudaBackend::do_copy(Tensor y, Tensor x) { cuda::copy(on_device(y), on_device(x), stream_); }

// ---- plain vectors

void CudaBackend::do_fill(Tensor x, float value) { cuda::fill(on_device(x), value, stream_); }

void CudaBackend::do_add_accumulate(Tensor y, Tensor x) {
  cuda::add_accumulate(on_device(y), on_device(x), stream_);
}

void CudaBackend::do_sum_rows(Tensor y, Tensor x) {
  cuda::sum_rows(f32_on_device(y), on_device(x), stream_);
}

void CudaBackend::do_sum_rows_accumulate(Tensor y, Tensor x) {
  cuda::sum_rows_accumulate(f32_on_device(y), on_device(x), stream_);
}

double CudaBackend::do_sum(Tensor x) {
  double* result = reduction_.take<double>(1 + cuda::kSumParts);
  cuda::sum(result, result + 1, on_device(x), stream_);
  double value;
  fetch(&value, result, sizeof value);
  return value;
}

void CudaBackend::fetch(void* host, const void* device, size_t bytes) {
  inbox_.copy(host, device, static_cast<int64_t>(bytes));
  inbox_.deliver();
}

}  // namespace facet
