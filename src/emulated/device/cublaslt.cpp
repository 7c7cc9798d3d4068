#include "emulated/device/cublaslt.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "emulated/device/matmul.h"
#include "emulated/device/memory.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"

namespace emulated = facet::emulated;
using emulated::Access, emulated::Footprint, emulated::Matmul, emulated::observer,
    emulated::violation;

namespace {

constexpr size_t kWorkspaceAlignment = 256;
// The workspace that the emulated algorithms ask for if they may: enough to destroy whatever else
// is kept in the same memory.
constexpr size_t kWantedWorkspace = 4096;
bool refuses_next = false;
int fails_to_start = -1;
emulated::AlgorithmTimes initial_times() {
  emulated::AlgorithmTimes times = emulated::kAlgorithmTimes;
  if (const char* const fastest = std::getenv("FACET_EMULATED_FASTEST"))
    times.at(std::strtoul(fastest, nullptr, 10)) = 1;
  return times;
}
emulated::AlgorithmTimes times = initial_times();
std::array<int64_t, emulated::kAlgorithms> starts{};
// How many terms each algorithm adds before it adds the sum to the others.
constexpr std::array<int64_t, emulated::kAlgorithms> kDepths = {256, 32, 16, 8, 4, 2};

// The alignment assumed for an address that no preference covers: no access is wider.
uint32_t alignment_of(const void* data) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data) | 16;
  return static_cast<uint32_t>(address & -address);
}

constexpr uint32_t kRoundingReductions =
    CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;

template <typename T>
cublasStatus_t set(T& to, const void* value, size_t bytes, EmulatedSite where) {
  if (!value || bytes != sizeof to)
    violation(where, "an attribute of {} bytes was given {} at {}", sizeof to, bytes, value);
  std::memcpy(&to, value, sizeof to);
  return CUBLAS_STATUS_SUCCESS;
}

enum class Part : uint8_t { kA, kB, kC, kBias, kD };

const char* name_of(Part part) {
  static const char* const kNames[] = {"A", "B", "C", "the bias", "D"};
  return kNames[static_cast<int>(part)];
}

// An operand of a call, and what its algorithm was promised about it.
struct Operand {
  Part part;
  Footprint memory;
  uint32_t alignment;
};

struct Workspace {
  void* data;
  size_t bytes;
};

// One call, from its checks until the stream executes it.
class Call {
 public:
  Call(const Matmul& matmul, Workspace workspace) : matmul_(matmul), workspace_(workspace) {}

  emulated::HostProduct product;
  double milliseconds = 0;

  void reads(const Operand& operand) {
    check_alignment(operand);
    inputs_.push_back(operand);
  }
  void writes(const Operand& d) {
    check_alignment(d);
    output_.push_back(d);
  }
  void check_aliases(const Footprint& c) const;
  void check_workspace(size_t needed) const;
  void run() const;

 private:
  const Footprint& d() const { return output_.front().memory; }
  void check_alignment(const Operand& operand) const {
    if (reinterpret_cast<uintptr_t>(operand.memory.begin) % operand.alignment != 0)
      violation(matmul_.where, "{} is at {}, its algorithm was chosen for {}-byte boundaries",
                name_of(operand.part), static_cast<const void*>(operand.memory.begin),
                operand.alignment);
  }
  void check_memory(const void* begin, int64_t bytes, const char* what) const {
    emulated::check_device_range(begin, static_cast<size_t>(bytes), what, matmul_.where);
  }
  void spoil_workspace() const;

  Matmul matmul_;
  Workspace workspace_;
  std::vector<Operand> inputs_, output_;
};

// D may alias C, in the same layout, and nothing else.
void Call::check_aliases(const Footprint& c) const {
  if (c.begin == d().begin && !(matmul_.c == matmul_.d))
    violation(matmul_.where, "C aliases D with another layout");
  const Footprint scratch = Footprint::dense(workspace_.data, workspace_.bytes);
  for (const Operand& input : inputs_) {
    const bool in_place = input.part == Part::kC && c.begin == d().begin;
    if (!in_place && input.memory.overlaps(d()))
      violation(matmul_.where, "D overlaps {}", name_of(input.part));
    if (input.memory.overlaps(scratch))
      violation(matmul_.where, "the workspace overlaps {}", name_of(input.part));
  }
  if (d().overlaps(scratch)) violation(matmul_.where, "the workspace overlaps D");
}

void Call::check_workspace(size_t needed) const {
  if (workspace_.bytes < needed)
    violation(matmul_.where, "a workspace of {} bytes, the algorithm needs {}", workspace_.bytes,
              needed);
  if (reinterpret_cast<uintptr_t>(workspace_.data) % kWorkspaceAlignment != 0)
    violation(matmul_.where, "the workspace is at {}, not at a multiple of {} bytes",
              workspace_.data, kWorkspaceAlignment);
}

void Call::run() const {
  for (const auto* operands : {&inputs_, &output_})
    for (const Operand& x : *operands)
      check_memory(x.memory.begin, x.memory.bytes(), name_of(x.part));
  if (workspace_.bytes > 0)
    check_memory(workspace_.data, static_cast<int64_t>(workspace_.bytes), "the workspace");
  for (const Operand& x : inputs_) x.memory.note(Access::kRead, matmul_.where);
  for (const Operand& x : output_) x.memory.note(Access::kWrite, matmul_.where);
  product.compute();
  emulated::pass_time(milliseconds);
  spoil_workspace();
}

// The library may leave anything there.
void Call::spoil_workspace() const {
  if (workspace_.bytes == 0) return;
  if (observer())
    observer()->operation_access(workspace_.data, workspace_.bytes, Access::kWrite, matmul_.where);
  emulated::forget_content(workspace_.data, workspace_.bytes);
}

}  // namespace

void emulated::set_algorithm_times(const AlgorithmTimes& milliseconds) { times = milliseconds; }
std::array<int64_t, emulated::kAlgorithms> emulated::algorithm_starts() { return starts; }
void emulated::refuse_next_algorithms() { refuses_next = true; }
void emulated::fail_to_start(int algorithm) { fails_to_start = algorithm; }

size_t cublasLtGetVersion() {
  const char* const version = std::getenv("FACET_EMULATED_CUBLASLT");
  return version ? std::strtoul(version, nullptr, 10) : 130000;
}

// ---- descriptors

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new emulated::LtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale,
                                        EmulatedSite where) {
  if (scale != CUDA_R_32F)
    violation(where, "products in fp32 take alpha and beta in fp32, not {}",
              name_of(emulated::dtype_of(scale)));
  *description = new emulated::MatmulDescription{compute};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes, EmulatedSite where) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(description->transpose_a, value, bytes, where);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(description->transpose_b, value, bytes, where);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(description->epilogue, value, bytes, where);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(description->bias, value, bytes, where);
  }
  violation(where, "attribute {} is not emulated", static_cast<int>(attribute));
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld,
                                          EmulatedSite where) {
  if (rows == 0 || cols == 0) violation(where, "an empty matrix ({}, {})", rows, cols);
  *layout =
      new emulated::MatrixLayout{type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t, const void* value,
                                                size_t bytes, EmulatedSite where) {
  return set(layout->order, value, bytes, where);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new emulated::MatmulPreference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes,
                                                    EmulatedSite where) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference->workspace_bytes, value, bytes, where);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(preference->reductions, value, bytes, where);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return set(preference->alignment_a, value, bytes, where);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return set(preference->alignment_b, value, bytes, where);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return set(preference->alignment_c, value, bytes, where);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference->alignment_d, value, bytes, where);
  }
  violation(where, "attribute {} is not emulated", static_cast<int>(attribute));
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found,
                                              EmulatedSite where) {
  if (!handle || !preference || wanted < 1) violation(where, "no handle, preference or result");
  const Matmul matmul(description, a, b, c, d, where);
  const size_t workspace =
      std::min(static_cast<size_t>(preference->workspace_bytes), kWantedWorkspace);
  const cublasStatus_t state =
      std::exchange(refuses_next, false) ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
  *found = std::min(wanted, emulated::kAlgorithms);
  for (int i = 0; i < *found; ++i)
    results[i] = {
        {matmul.fingerprint(), static_cast<uint64_t>(i), workspace, preference->reductions,
         preference->alignment_a, preference->alignment_b, preference->alignment_c,
         preference->alignment_d, alignment_of(description->bias)},
        workspace,
        state,
        1.0f};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result,
                                       EmulatedSite where) {
  if (!handle || !algo || !result) violation(where, "no handle, algorithm or result");
  const Matmul matmul(description, a, b, c, d, where);
  if (algo->number >= emulated::kAlgorithms) return CUBLAS_STATUS_NOT_SUPPORTED;
  handle->checked.emplace(matmul.fingerprint(), algo->number);
  *result = {*algo, algo->workspace_bytes, CUBLAS_STATUS_SUCCESS, 1.0f};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream,
                              EmulatedSite where) {
  if (!handle || !alpha || !beta) violation(where, "no handle, alpha or beta");
  if (!algo) violation(where, "no algorithm: the library would search for one at every call");
  const Matmul matmul(description, a_layout, b_layout, c_layout, d_layout, where);
  const std::pair asked{matmul.fingerprint(), algo->number};
  if (algo->product != asked.first && !handle->checked.contains(asked))
    violation(where, "the algorithm was chosen for another product");
  if (fails_to_start == static_cast<int>(algo->number)) return CUBLAS_STATUS_EXECUTION_FAILED;
  ++starts[algo->number];

  Call call(matmul, {workspace, workspace_bytes});
  emulated::HostProduct& product = call.product;
  std::memcpy(&product.alpha, alpha, sizeof product.alpha);
  std::memcpy(&product.beta, beta, sizeof product.beta);
  const emulated::MatmulDescription& how = matmul.description;
  product.a = matmul.a.matrix(a, how.transpose_a);
  product.b = matmul.b.matrix(b, how.transpose_b);
  product.c = matmul.c.matrix(c);
  product.d = matmul.d.matrix(d);
  if (how.compute == CUBLAS_COMPUTE_32F_FAST_TF32) product.inputs = emulated::InputPrecision::kTF32;
  product.depth = kDepths[algo->number];
  call.milliseconds = times[algo->number];
  if (algo->reductions & kRoundingReductions)
    product.partial_sums = emulated::PartialSums::kOutputType;

  call.reads({Part::kA, matmul.a.footprint(a), algo->alignment_a});
  call.reads({Part::kB, matmul.b.footprint(b), algo->alignment_b});
  if (product.beta != 0) call.reads({Part::kC, matmul.c.footprint(c), algo->alignment_c});
  if (how.epilogue == CUBLASLT_EPILOGUE_BIAS) {
    // No preference covers the bias: its pointer was examined when the algorithm was chosen.
    const emulated::MatrixLayout column{matmul.d.type, matmul.d.rows, 1, matmul.d.rows};
    call.reads({Part::kBias, column.footprint(how.bias), algo->alignment_bias});
    product.bias = column.matrix(how.bias);
  }
  call.writes({Part::kD, matmul.d.footprint(d), algo->alignment_d});
  call.check_aliases(matmul.c.footprint(c));
  call.check_workspace(algo->workspace_bytes);
  emulated::enqueue(stream, "multiplied", where, [call] { call.run(); });
  return CUBLAS_STATUS_SUCCESS;
}
