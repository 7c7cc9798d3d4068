// Graphs of operations for cuDNN's backend API. The library is opened when the first graph is made,
// not when the program starts: a machine without it runs everything else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/cudnn.h"

namespace facet::cuda {

// cuDNN's functions that are in use.
struct CudnnLibrary {
  decltype(&::cudnnGetErrorString) error_string;
  decltype(&::cudnnGetLastErrorString) last_error_string;
  decltype(&::cudnnCreate) create;
  decltype(&::cudnnDestroy) destroy;
  decltype(&::cudnnSetStream) set_stream;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&::cudnnBackendSetAttribute) set_attribute;
  decltype(&::cudnnBackendGetAttribute) get_attribute;
  decltype(&::cudnnBackendFinalize) finalize;
  decltype(&::cudnnBackendExecute) execute;

  // Opens it once. Throws Error(kConfig) that names what is missing.
  static const CudnnLibrary& open();
};

// Throws Error(kInternal) unless the call succeeded; `what` says what cuDNN could not do.
void check_cudnn(cudnnStatus_t status, const std::string& what);

class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  ~CudnnDescriptor();
  CudnnDescriptor(const CudnnDescriptor&) = delete;
  CudnnDescriptor& operator=(const CudnnDescriptor&) = delete;
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
           std::span<const T> values) {
    set(name, type, std::ssize(values), values.data());
  }
  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set(name, type, 1, static_cast<const void*>(&value));
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.descriptor_);
  }
  void finalize();

 private:
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);

  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

// What a graph is planned for: the GPU of a handle, or one described by its properties.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  const CudnnDescriptor* properties = nullptr;
};

// Tensors of four dimensions and operations on them, planned as one kernel or a few. A tensor is
// named by the number that adding it returns.
class CudnnGraph {
 public:
  using Four = std::array<int64_t, 4>;

  // In memory, given when the graph runs.
  int64_t add_tensor(const Four& sizes, const Four& strides, cudnnDataType_t type);
  // Between operations, dense.
  int64_t add_virtual(const Four& sizes, cudnnDataType_t type);
  // The same, laid out as the transpose of a dense tensor.
  int64_t add_transposed(const Four& sizes, cudnnDataType_t type);
  // One fp32 number, given when the graph runs, in host memory.
  int64_t add_number();

  // c = a b over the last two dimensions, summed in fp32.
  void matmul(int64_t a, int64_t b, int64_t c);
  // y = mode(x), mode(x, b), or of BINARY_SELECT t ? x : b.
  void pointwise(cudnnPointwiseMode_t mode, int64_t y, int64_t x, int64_t b = kNone,
                 int64_t t = kNone);
  // y = the index of each element along a dimension.
  void index(int64_t y, int64_t x, int64_t dimension);
  // y = the operation over the dimensions of x that y lacks, in an order that is always the same.
  void reduce(cudnnReduceTensorOp_t operation, int64_t y, int64_t x);
  // y, whose last two sizes are those of x in the other order, = the transpose of x there.
  void transpose(int64_t y, int64_t x);

  // Chooses kernels that give the same bits in every run; `what` names the graph in errors. Throws
  // Error(kConfig) where cuDNN has none for it.
  void plan(const CudnnTarget& target, const std::string& what);
  int64_t workspace_bytes() const { return workspace_bytes_; }
  void run(cudnnHandle_t handle, const std::map<int64_t, void*>& memory, void* workspace) const;

 private:
  static constexpr int64_t kNone = -1;

  struct Shape {
    Four sizes, strides;
    cudnnDataType_t type;
    enum class Where : uint8_t { kMemory, kVirtual, kHost } where;
  };
  int64_t add(const Shape& shape);
  std::vector<std::unique_ptr<CudnnDescriptor>> configurations(const CudnnTarget& target,
                                                               const std::string& what) const;
  const CudnnDescriptor& at(int64_t tensor) const { return *tensors_[static_cast<size_t>(tensor)]; }
  CudnnDescriptor& own(cudnnBackendDescriptorType_t type);

  std::vector<std::unique_ptr<CudnnDescriptor>> tensors_, owned_;
  std::vector<cudnnBackendDescriptor_t> operations_;
  std::unique_ptr<CudnnDescriptor> graph_, plan_;
  int64_t workspace_bytes_ = 0;
};

}  // namespace facet::cuda
