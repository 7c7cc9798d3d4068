#include "emulated/device/devices.h"

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "emulated/device/memory.h"
#include "emulated/device/stream.h"

namespace facet::emulated {
namespace {

ComputeCapability capability;

StreamPolicy policy_of(const std::string& text) {
  if (text.empty() || text == "at_once") return {};
  if (text == "late") return {Lateness::kAsLateAsAllowed, 1};
  CHECK(text.find_first_not_of("0123456789") == std::string::npos && text.size() < 19,
        ExitCode::kUsage, "FACET_EMULATED_STREAMS is {}; give at_once, late or a number", text);
  return {Lateness::kRandom, std::stoull(text)};
}

// FACET_EMULATED_CAPABILITY, read like FACET_EMULATED_STREAMS, is what the device says that it is:
// 9.0 for a Hopper, 8.6 for a GPU with less shared memory.
void read_capability() {
  const char* const text = std::getenv("FACET_EMULATED_CAPABILITY");
  if (!text) return;
  const std::string given = text;
  CHECK(given == "8.0" || given == "8.6" || given == "9.0", ExitCode::kUsage,
        "FACET_EMULATED_CAPABILITY is {}; give 8.0, 8.6 or 9.0", given);
  set_compute_capability({.major = given[0] - '0', .minor = given[2] - '0'});
}

}  // namespace

void set_compute_capability(ComputeCapability of_device) { capability = of_device; }
size_t max_shared_bytes() {
  if (capability.major == 8 && capability.minor > 0) return size_t{99} << 10;
  return size_t{capability.major >= 9 ? 227u : 163u} << 10;
}

}  // namespace facet::emulated

cudaError_t cudaGetDeviceCount(int* devices) {
  *devices = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
  facet::emulated::read_capability();
  const char* policy = std::getenv("FACET_EMULATED_STREAMS");
  facet::emulated::set_stream_policy(facet::emulated::policy_of(policy ? policy : ""));
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrClockRate: *value = 1'000'000; break;
    case cudaDevAttrMultiProcessorCount: *value = 1; break;
    case cudaDevAttrComputeCapabilityMajor: *value = facet::emulated::capability.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = facet::emulated::capability.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(facet::emulated::max_shared_bytes());
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulation on the CPU, without cuDNN", facet::emulated::device_range().bytes,
                 facet::emulated::capability.major, facet::emulated::capability.minor};
  return cudaSuccess;
}
