#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "device/cuda/architectures.h"
#include "device/cuda/stream.h"
#include "tests/device/cuda/device_under_test.h"
#include "tests/device/cuda/hopper_device.h"

namespace facet::device_test {
namespace {

// ---- the GPU

// Its number among the ranks of this host, of which a program without MPI is the only one.
int place_on_host() {
  int mpi_is_up = 0, place = 0;
  MPI_Initialized(&mpi_is_up);
  if (!mpi_is_up) return place;
  MPI_Comm host;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  MPI_Comm_rank(host, &place);
  MPI_Comm_free(&host);
  return place;
}

// Machine code (sm_80) runs on GPUs of its major version from its minor one on, text (compute_80)
// on all newer ones.
bool runs_on(const std::string& architectures, int major, int minor) {
  std::istringstream words(architectures);
  for (std::string word; words >> word;) {
    const int version = std::stoi(word.substr(word.find('_') + 1));
    const bool text = word.starts_with("compute_");
    if (version <= 10 * major + minor && (text || version / 10 == major)) return true;
  }
  return false;
}

// Why the tests cannot run here, or nothing.
std::string open_gpu() {
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  if (error != cudaSuccess || gpus == 0)
    return fmt::format("no GPU can be used here ({}); does `nvidia-smi` show one?",
                       error == cudaSuccess ? "the driver shows none" : cudaGetErrorString(error));
  const int gpu = place_on_host() % gpus;
  cudaDeviceProp properties{};
  check_cuda(cudaSetDevice(gpu), "the GPU cannot be opened");
  check_cuda(cudaGetDeviceProperties(&properties, gpu), "the GPU says nothing about itself");
  const std::string text = fmt::format("GPU {}: {}, compute capability {}.{}", gpu, properties.name,
                                       properties.major, properties.minor);
  if (!runs_on(kCudaArchitectures, properties.major, properties.minor))
    return fmt::format(
        "{}, on which kernels for {} do not run; make gpu-tests CUDA_ARCHITECTURES=sm_{}{}", text,
        kCudaArchitectures, properties.major, properties.minor);
  fmt::print("{}\n", text);
  return "";
}

// ---- around the tests

const char* name_of(cudaError_t error) { return cudaGetErrorName(error); }

// Without a word of GoogleTest about thousands of tests.
[[noreturn]] void end_program(const std::string& reason) {
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", reason);
  std::_Exit(1);
}

class GpuListener : public testing::EmptyTestEventListener {
  void OnTestProgramStart(const testing::UnitTest&) override {
    const std::string reason = open_gpu();
    if (!reason.empty()) end_program(reason);
  }
  // Some errors of kernels end every later call.
  void OnTestStart(const testing::TestInfo&) override {
    const cudaError_t error = cudaDeviceSynchronize();
    if (error != cudaSuccess)
      end_program(fmt::format("{} stays: this test and those after it do not run", name_of(error)));
  }
  // Errors that no call of the test has seen.
  void OnTestEnd(const testing::TestInfo&) override {
    const cudaError_t of_kernels = cudaDeviceSynchronize(), of_calls = cudaGetLastError();
    EXPECT_EQ(of_kernels, cudaSuccess) << name_of(of_kernels);
    // Whoever asked whether an event is over has had his answer.
    EXPECT_TRUE(of_calls == cudaSuccess || of_calls == cudaErrorNotReady) << name_of(of_calls);
  }
};

const bool kListens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new GpuListener);
  return true;
}();

// ---- arrays

constexpr size_t kGuardBytes = 256;  // keeps the alignment that cudaMalloc gives
constexpr unsigned char kGuard = 0xa5;

size_t guard_bytes() { return every_access_is_watched() ? 0 : kGuardBytes; }

bool guard_intact(const char* guard) {
  std::vector<unsigned char> bytes(kGuardBytes);
  if (cudaMemcpy(bytes.data(), guard, kGuardBytes, cudaMemcpyDeviceToHost) != cudaSuccess)
    return true;  // the error is reported after the test
  return std::all_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte == kGuard; });
}

}  // namespace

bool every_access_is_watched() {
  static const bool watched = std::getenv("FACET_COMPUTE_SANITIZER") != nullptr;
  return watched;
}

void* allocate_array(size_t bytes) {
  const size_t guard = guard_bytes();
  void* memory = nullptr;
  // An address also where there is no element: null would be an absent array.
  check_cuda(cudaMalloc(&memory, std::max(bytes + 2 * guard, size_t{1})), "no memory for a test");
  if (guard == 0) return memory;
  char* const array = static_cast<char*>(memory) + guard;
  check_cuda(cudaMemset(memory, kGuard, bytes + 2 * guard), "cannot fill guards");
  check_cuda(cudaMemset(array, 0xff, bytes), "cannot fill an array");
  // The streams of tests do not wait for the default stream.
  check_cuda(cudaDeviceSynchronize(), "cannot fill an array");
  return array;
}

void free_array(void* array, size_t bytes) {
  const size_t guard = guard_bytes();
  char* memory = static_cast<char*>(array) - guard;
  if (guard > 0 && cudaDeviceSynchronize() == cudaSuccess) {
    EXPECT_TRUE(guard_intact(memory)) << "written before an array of " << bytes << " bytes";
    EXPECT_TRUE(guard_intact(memory + guard + bytes))
        << "written past the end of an array of " << bytes << " bytes";
  }
  cudaFree(memory);
}

HostCalls host_calls() { return {}; }

HopperDevice::HopperDevice() {
  int gpu = 0;
  cudaDeviceProp properties{};
  check_cuda(cudaGetDevice(&gpu), "no GPU is open");
  check_cuda(cudaGetDeviceProperties(&properties, gpu), "the GPU says nothing about itself");
  is_here_ = properties.major == 9 && properties.minor == 0;
}
HopperDevice::~HopperDevice() = default;

void set_thread_order(int) {}
void delay_warp(int) {}
void delay_block(int) {}
void run_streams_at_once() {}
void run_streams_late() {}
void run_streams_at_random(uint64_t) {}

}  // namespace facet::device_test
