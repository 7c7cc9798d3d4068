#include "device/cuda/stream.h"

#include <utility>

#include "base/check.h"

namespace facet {

void check_cuda(cudaError_t error, const char* what, std::source_location where) {
  CHECK(error == cudaSuccess, ExitCode::kInternal,
        "{}:{}: {}: {}; if the GPU itself is well (nvidia-smi, dmesg), run the program under "
        "compute-sanitizer to see which kernel failed first",
        where.file_name(), where.line(), what, cudaGetErrorString(error));
}

Event::Event() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cannot create an event");
}
Event::~Event() { cudaEventDestroy(event_); }

void Event::record(const Stream& stream) {
  check_cuda(cudaEventRecord(event_, stream), "cannot record an event");
}
void Event::synchronize() const {
  check_cuda(cudaEventSynchronize(event_), "the work before an event failed");
}

Stream::Stream() {
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cannot create a stream");
}
Stream::~Stream() { cudaStreamDestroy(stream_); }

void Stream::wait(const Event& event) const {
  check_cuda(cudaStreamWaitEvent(stream_, event, 0), "cannot wait for an event");
}
void Stream::before_synchronize(std::function<void()> call) const {
  before_synchronize_ = std::move(call);
}
void Stream::synchronize() const {
  if (before_synchronize_) before_synchronize_();
  check_cuda(cudaStreamSynchronize(stream_), "the work of a stream failed");
}

#if defined(FACET_EMULATED)
void forget_content(void* data, int64_t bytes, const Stream& stream) {
  emulated::forget_on_stream(data, static_cast<size_t>(bytes), stream);
}
#else
void forget_content(void*, int64_t, const Stream&) {}
#endif

}  // namespace facet
