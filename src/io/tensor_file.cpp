#include "io/tensor_file.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/half.h"
#include "io/strided_view.h"

namespace facet {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

namespace {

constexpr int64_t kPieceElements = int64_t{1} << 18;

// Calls convert(n, raw, out) for pieces of elements of type T.
template <typename T, typename Read, typename Convert>
void in_pieces(int64_t count, float* out, const Read& read, const Convert& convert) {
  std::vector<T> piece(static_cast<size_t>(std::min(count, kPieceElements)));
  for (int64_t done = 0; done < count; done += kPieceElements) {
    const int64_t n = std::min(kPieceElements, count - done);
    read(done, n, piece.data());
    convert(n, piece.data(), out + done);
  }
}

}  // namespace

std::string StoredTensor::shape_string() const {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + ")";
}

bool StoredTensor::is_real() const {
  return type == "F32" || type == "BF16" || type == "F16" || type == "F64";
}

const StoredTensor* TensorFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const StoredTensor& TensorFile::checked_range(std::string_view name, int64_t begin,
                                              int64_t count) const {
  const StoredTensor* tensor = find(name);
  CHECK(tensor != nullptr, ExitCode::kBadData, "{}: there is no tensor {}", path(), name);
  ASSERT(begin >= 0 && count >= 0 && begin <= tensor->numel() - count, "elements {} to {} of {} {}",
         begin, begin + count, name, tensor->shape_string());
  return *tensor;
}

void TensorFile::read_f32(std::string_view name, int64_t begin, int64_t count, float* out) const {
  const StoredTensor& tensor = checked_range(name, begin, count);
  CHECK(tensor.is_real(), ExitCode::kBadData,
        "{}: {} is {}, a parameter must be F32, BF16, F16 or F64", path(), name, tensor.type);
  check_before_reading(tensor);
  if (tensor.strides.empty()) return read_run(tensor, begin, count, out);
  if (count > 0) read_view(tensor, begin, count, out);
}

// Elements one behind the other, counted from the tensor's first.
void TensorFile::read_run(const StoredTensor& tensor, int64_t begin, int64_t count,
                          float* out) const {
  const int64_t bytes = tensor.type == "F64" ? 8 : tensor.type == "F32" ? 4 : 2;
  const auto read = [&](int64_t done, int64_t n, void* piece) {
    file_.read_at(tensor.begin + (begin + done) * bytes, piece, n * bytes);
  };
  if (tensor.type == "F32") return read(0, count, out);
  if (tensor.type == "F64")
    return in_pieces<double>(count, out, read, [](int64_t n, const double* raw, float* rounded) {
      std::transform(raw, raw + n, rounded, [](double x) { return static_cast<float>(x); });
    });
  const DType dtype = tensor.type == "F16" ? DType::kF16 : DType::kBF16;
  in_pieces<uint16_t>(count, out, read, [&](int64_t n, const uint16_t* raw, float* wide) {
    widen(wide, raw, n, dtype);
  });
}

// A window of the file moves over the view once.
void TensorFile::read_view(const StoredTensor& tensor, int64_t begin, int64_t count,
                           float* out) const {
  int64_t span = 1;
  for (size_t i = 0; i < tensor.shape.size(); ++i)
    span += (tensor.shape[i] - 1) * tensor.strides[i];
  std::vector<float> window(static_cast<size_t>(std::min(span, kPieceElements)));
  int64_t first = 0, behind = 0;  // the elements in the window
  visit_in_memory_order(tensor.shape, tensor.strides, [&](int64_t place, int64_t index) {
    if (index < begin || index >= begin + count) return;
    if (place < first || place >= behind) {
      first = place;
      behind = std::min(first + static_cast<int64_t>(window.size()), span);
      read_run(tensor, first, behind - first, window.data());
    }
    out[index - begin] = window[static_cast<size_t>(place - first)];
  });
}

void TensorFile::read_i64(std::string_view name, int64_t begin, int64_t count, int64_t* out) const {
  const StoredTensor& tensor = checked_range(name, begin, count);
  const bool known = (tensor.type == "I64" || tensor.type == "U8") && tensor.strides.empty();
  CHECK(known, ExitCode::kBadData, "{}: {} is {}{}, expected integers", path(), name, tensor.type,
        tensor.strides.empty() ? "" : " with strides");
  check_before_reading(tensor);
  if (tensor.type == "I64") return file_.read_at(tensor.begin + 8 * begin, out, 8 * count);
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  file_.read_at(tensor.begin + begin, bytes.data(), count);
  std::copy(bytes.begin(), bytes.end(), out);
}

}  // namespace facet
