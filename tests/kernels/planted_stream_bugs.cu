// Mistakes of the host: launches, and the order of streams.
#include "kernels/gpu.h"
#include "tests/kernels/planted_bugs.h"

namespace facet::kernel_test::bugs {
namespace {

__global__ void write_kernel(float* y, float value) { y[threadIdx.x] = value; }
__global__ void copy_kernel(float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }
// The partial sums of `parts` parts, of which an earlier call may have left more.
__global__ void partial_kernel(float* workspace, int parts) {
  if (static_cast<int>(threadIdx.x) < parts) workspace[threadIdx.x] = 1.0f;
}
__global__ void sum_kernel(float* y, const float* workspace, int parts) {
  float sum = 0;
  for (int p = 0; p < parts; ++p) sum += workspace[p];
  y[threadIdx.x] = sum;
}

constexpr int kCount = 32;

void write(cudaStream_t stream, float* y) {
  gpu::launch(stream, {.grid = 1, .block = kCount}, write_kernel, y, 1.0f);
}
void copy(cudaStream_t stream, float* y, const float* x) {
  gpu::launch(stream, {.grid = 1, .block = kCount}, copy_kernel, y, x);
}
float* device_floats() {
  float* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), kCount * sizeof(float));
  return data;
}
cudaEvent_t new_event() {
  cudaEvent_t event;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  return event;
}

}  // namespace

void block_too_large(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 1025}, write_kernel, rig.y, 1.0f);
}
void empty_grid(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 0, .block = 32}, write_kernel, rig.y, 1.0f);
}
void host_pointer(const BugRig& rig) {
  const float x[kCount] = {};
  copy(rig.stream, rig.y, x);
  cudaStreamSynchronize(rig.stream);
}
void host_reads_device_memory(const BugRig& rig) {
  write(rig.stream, rig.y);
  cudaStreamSynchronize(rig.stream);
  volatile float value = rig.y[3];
  static_cast<void>(value);
}
void default_stream(const BugRig& rig) { write(nullptr, rig.y); }

void no_event(const BugRig& rig) {
  float* between = device_floats();
  write(rig.other, between);
  copy(rig.stream, rig.y, between);
}
void event_recorded_too_early(const BugRig& rig) {
  float* between = device_floats();
  cudaEvent_t event = new_event();
  cudaEventRecord(event, rig.other);
  write(rig.other, between);
  cudaStreamWaitEvent(rig.stream, event, 0);
  copy(rig.stream, rig.y, between);
  cudaEventDestroy(event);
}
void event_never_recorded(const BugRig& rig) {
  cudaEvent_t event = new_event();
  cudaStreamWaitEvent(rig.stream, event, 0);
  write(rig.stream, rig.y);
}
// The next content is written before the last reader is done.
void overwritten_while_read(const BugRig& rig) {
  float* buffer = device_floats();
  cudaMemsetAsync(buffer, 0, kCount * sizeof(float), rig.stream);
  copy(rig.stream, rig.y, buffer);
  cudaMemsetAsync(buffer, 0xff, kCount * sizeof(float), rig.other);
  cudaStreamSynchronize(rig.other);
}
void used_after_async_free(const BugRig& rig) {
  float* buffer = device_floats();
  cudaMemsetAsync(buffer, 0, kCount * sizeof(float), rig.stream);
  cudaStreamSynchronize(rig.stream);
  cudaFreeAsync(buffer, rig.other);
  copy(rig.stream, rig.y, buffer);
}
void used_before_async_malloc(const BugRig& rig) {
  float* buffer = nullptr;
  cudaMallocAsync(reinterpret_cast<void**>(&buffer), kCount * sizeof(float), rig.other);
  write(rig.stream, buffer);
  copy(rig.stream, rig.y, buffer);
}
void freed_twice(const BugRig& rig) {
  float* buffer = device_floats();
  write(rig.stream, rig.y);
  cudaFree(buffer);
  cudaFree(buffer);
}
void copied_behind_the_end(const BugRig& rig) {
  float* buffer = device_floats();
  cudaMemcpyAsync(buffer, rig.x, (kCount + 1) * sizeof(float), cudaMemcpyDeviceToDevice,
                  rig.stream);
}
void stale_workspace(const BugRig& rig) {
  float* workspace = device_floats();
  const auto shape = gpu::LaunchShape{.grid = 1, .block = kCount};
  gpu::launch(rig.stream, shape, partial_kernel, workspace, 16);
  gpu::launch(rig.stream, shape, sum_kernel, rig.y, workspace, 16);
#if defined(FACET_EMULATED)
  // What the arena does with a workspace that is given back.
  emulated::forget_on_stream(workspace, kCount * sizeof(float), rig.stream);
#endif
  gpu::launch(rig.stream, shape, partial_kernel, workspace, 8);
  gpu::launch(rig.stream, shape, sum_kernel, rig.y, workspace, 16);
}

}  // namespace facet::kernel_test::bugs
