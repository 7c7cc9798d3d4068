// A part of device_under_test.h, for the tests of kernels for Hopper.
#pragma once

namespace facet::device_test {

// Whether kernels for Hopper (sm_90a) can run. The emulated device says so of itself as long as one
// of these lives.
class HopperDevice {
 public:
  HopperDevice();
  ~HopperDevice();
  HopperDevice(const HopperDevice&) = delete;
  HopperDevice& operator=(const HopperDevice&) = delete;
  bool is_here() const { return is_here_; }

 private:
  bool is_here_ = false;
};
constexpr const char* kNoHopper = "the GPU is no Hopper";

}  // namespace facet::device_test
