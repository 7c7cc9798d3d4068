#include "kernels/cuda/cudnn_graph.h"

#include <dlfcn.h>

#include <algorithm>

#include "base/check.h"

namespace facet::cuda {
namespace {

constexpr const char* kLibrary = "libcudnn.so.9";

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  CHECK(function != nullptr, ExitCode::kConfig, "--attention cudnn: {} has no function {}",
        kLibrary, name);
}

CudnnLibrary open_library() {
  void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr, ExitCode::kConfig,
        "--attention cudnn: cuDNN cannot be opened ({}); add its directory to LD_LIBRARY_PATH, or "
        "give --attention facet",
        dlerror());
  CudnnLibrary found{};
  find(library, "cudnnGetErrorString", found.error_string);
  find(library, "cudnnGetLastErrorString", found.last_error_string);
  find(library, "cudnnCreate", found.create);
  find(library, "cudnnDestroy", found.destroy);
  find(library, "cudnnSetStream", found.set_stream);
  find(library, "cudnnBackendCreateDescriptor", found.create_descriptor);
  find(library, "cudnnBackendDestroyDescriptor", found.destroy_descriptor);
  find(library, "cudnnBackendSetAttribute", found.set_attribute);
  find(library, "cudnnBackendGetAttribute", found.get_attribute);
  find(library, "cudnnBackendFinalize", found.finalize);
  find(library, "cudnnBackendExecute", found.execute);
  return found;
}

// Does it add in an order that depends on chance?
bool is_deterministic(const CudnnDescriptor& configuration) {
  const CudnnLibrary& cudnn = CudnnLibrary::open();
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t into = engine.get();
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  int64_t count = 0;
  check_cudnn(cudnn.get_attribute(configuration.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                  CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &into),
              "name an engine");
  check_cudnn(
      cudnn.get_attribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                          std::ssize(notes), &count, notes.data()),
      "say how an engine computes");
  const auto end = notes.begin() + std::min(count, std::ssize(notes));
  return std::find(notes.begin(), end, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) == end;
}

// After a call that failed.
std::string last_error(cudnnStatus_t status) {
  std::array<char, 512> text{};
  CudnnLibrary::open().last_error_string(text.data(), text.size());
  return fmt::format("{}: {}", CudnnLibrary::open().error_string(status), text.data());
}

}  // namespace

const CudnnLibrary& CudnnLibrary::open() {
  static const CudnnLibrary library = open_library();
  return library;
}

void check_cudnn(cudnnStatus_t status, const std::string& what) {
  CHECK(status == CUDNN_STATUS_SUCCESS, ExitCode::kInternal, "cuDNN could not {}: {}", what,
        last_error(status));
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  check_cudnn(CudnnLibrary::open().create_descriptor(type, &descriptor_), "make a descriptor");
}
CudnnDescriptor::~CudnnDescriptor() { CudnnLibrary::open().destroy_descriptor(descriptor_); }

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                          int64_t count, const void* values) {
  check_cudnn(CudnnLibrary::open().set_attribute(descriptor_, name, type, count, values),
              fmt::format("set attribute {}", static_cast<int>(name)));
}

void CudnnDescriptor::finalize() {
  check_cudnn(CudnnLibrary::open().finalize(descriptor_), "finalize a descriptor");
}

// ---- CudnnGraph

int64_t CudnnGraph::add(const Shape& shape) {
  // Rows of heads begin at 16 bytes, one number a row anywhere.
  const int64_t alignment = shape.type == CUDNN_DATA_FLOAT ? 4 : 16;
  const auto number = std::ssize(tensors_);
  auto tensor = std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, shape.type);
  tensor->set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64,
              std::span<const int64_t>(shape.sizes));
  tensor->set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const int64_t>(shape.strides));
  tensor->set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{number});
  tensor->set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment);
  tensor->set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN,
              shape.where == Shape::Where::kVirtual);
  tensor->set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN,
              shape.where == Shape::Where::kHost);
  tensor->finalize();
  tensors_.push_back(std::move(tensor));
  return number;
}

int64_t CudnnGraph::add_tensor(const Four& sizes, const Four& strides, cudnnDataType_t type) {
  return add({sizes, strides, type, Shape::Where::kMemory});
}

int64_t CudnnGraph::add_virtual(const Four& sizes, cudnnDataType_t type) {
  const Four dense = {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1};
  return add({sizes, dense, type, Shape::Where::kVirtual});
}

int64_t CudnnGraph::add_transposed(const Four& sizes, cudnnDataType_t type) {
  const Four strides = {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], 1, sizes[2]};
  return add({sizes, strides, type, Shape::Where::kVirtual});
}

int64_t CudnnGraph::add_number() {
  return add({{1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT, Shape::Where::kHost});
}

CudnnDescriptor& CudnnGraph::own(cudnnBackendDescriptorType_t type) {
  owned_.push_back(std::make_unique<CudnnDescriptor>(type));
  return *owned_.back();
}

void CudnnGraph::matmul(int64_t a, int64_t b, int64_t c) {
  CudnnDescriptor& how = own(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.finalize();
  CudnnDescriptor& operation = own(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, at(a));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, at(b));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, at(c));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  operation.finalize();
  operations_.push_back(operation.get());
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, int64_t y, int64_t x, int64_t b, int64_t t) {
  CudnnDescriptor& how = own(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.finalize();
  CudnnDescriptor& operation = own(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
  if (b != kNone) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(b));
  if (t != kNone) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, at(t));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  operation.finalize();
  operations_.push_back(operation.get());
}

void CudnnGraph::index(int64_t y, int64_t x, int64_t dimension) {
  CudnnDescriptor& how = own(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_GEN_INDEX);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, dimension);
  how.finalize();
  CudnnDescriptor& operation = own(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  operation.finalize();
  operations_.push_back(operation.get());
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t reduction, int64_t y, int64_t x) {
  CudnnDescriptor& how = own(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, reduction);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.set(CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, CUDNN_TYPE_BOOLEAN, true);
  how.finalize();
  CudnnDescriptor& operation = own(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x));
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(y));
  operation.finalize();
  operations_.push_back(operation.get());
}

void CudnnGraph::transpose(int64_t y, int64_t x) {
  CudnnDescriptor& operation = own(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, at(x));
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, at(y));
  operation.finalize();
  operations_.push_back(operation.get());
}

void CudnnGraph::plan(const CudnnTarget& target, const std::string& what) {
  const CudnnLibrary& cudnn = CudnnLibrary::open();
  graph_ = std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph_->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
              std::span<const cudnnBackendDescriptor_t>(operations_));
  if (target.handle)
    graph_->set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  graph_->finalize();

  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  for (auto& configuration : configurations(target, what)) {
    plan_ = std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan_->set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *configuration);
    if (target.handle)
      plan_->set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
    if (target.properties) plan_->set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties);
    status = cudnn.finalize(plan_->get());
    owned_.push_back(std::move(configuration));  // as long as the plan
    if (status == CUDNN_STATUS_SUCCESS) break;
  }
  CHECK(status == CUDNN_STATUS_SUCCESS, ExitCode::kConfig, "cuDNN has no kernel for {}: {}", what,
        last_error(status));
  int64_t count = 0;
  check_cudnn(cudnn.get_attribute(plan_->get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                  CUDNN_TYPE_INT64, 1, &count, &workspace_bytes_),
              "say how much memory a plan needs");
}

// Those that give the same bits in every run, in the order in which cuDNN expects them to be fast;
// not all of them need support the graph.
std::vector<std::unique_ptr<CudnnDescriptor>> CudnnGraph::configurations(
    const CudnnTarget& target, const std::string& what) const {
  constexpr size_t kMost = 8;
  const CudnnLibrary& cudnn = CudnnLibrary::open();
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *graph_);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  if (target.properties) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
  const cudnnStatus_t status = cudnn.finalize(heuristics.get());
  CHECK(status == CUDNN_STATUS_SUCCESS, ExitCode::kConfig, "cuDNN has no kernel for {}: {}", what,
        last_error(status));

  std::vector<std::unique_ptr<CudnnDescriptor>> proposed;
  std::array<cudnnBackendDescriptor_t, kMost> into{};
  for (cudnnBackendDescriptor_t& each : into) {
    proposed.push_back(std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    each = proposed.back()->get();
  }
  int64_t found = 0;
  check_cudnn(
      cudnn.get_attribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                          CUDNN_TYPE_BACKEND_DESCRIPTOR, std::ssize(into), &found, into.data()),
      "propose kernels");
  proposed.resize(static_cast<size_t>(std::min(found, std::ssize(into))));
  std::erase_if(proposed, [](const auto& each) { return !is_deterministic(*each); });
  return proposed;
}

void CudnnGraph::run(cudnnHandle_t handle, const std::map<int64_t, void*>& memory,
                     void* workspace) const {
  std::vector<int64_t> numbers;
  std::vector<void*> pointers;
  for (const auto& [number, pointer] : memory) {
    numbers.push_back(number);
    pointers.push_back(pointer);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::span<const int64_t>(numbers));
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
           std::span<void* const>(pointers));
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize();
  check_cudnn(CudnnLibrary::open().execute(handle, plan_->get(), pack.get()), "run a plan");
}

}  // namespace facet::cuda
