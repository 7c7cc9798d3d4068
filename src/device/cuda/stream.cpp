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

void Event::record(cudaStream_t stream) {
  check_cuda(cudaEventRecord(event_, stream), "cannot record an event");
}
bool Event::is_over() const {
  const cudaError_t state = cudaEventQuery(event_);
  if (state == cudaErrorNotReady) {
    cudaGetLastError();  // else the next kernel launch would report it
    return false;
  }
  check_cuda(state, "the work before an event failed");
  return true;
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
void Stream::before_synchronize(std::function<bool()> follow) const { follow_ = std::move(follow); }
bool Stream::follow_oldest() const { return follow_ && follow_(); }
void Stream::synchronize(const Event& event) const {
  while (!event.is_over() && follow_oldest()) {
  }
  event.synchronize();
}
void Stream::synchronize() const {
  while (follow_oldest()) {
  }
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
