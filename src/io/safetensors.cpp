#include "io/safetensors.h"

#include <algorithm>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/content_kind.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;

struct ElementType {
  std::string_view name;
  int64_t bits;
};
constexpr ElementType kTypes[] = {
    {"F64", 64},    {"F32", 32},    {"F16", 16},        {"BF16", 16},       {"I64", 64},
    {"I32", 32},    {"I16", 16},    {"I8", 8},          {"U64", 64},        {"U32", 32},
    {"U16", 16},    {"U8", 8},      {"BOOL", 8},        {"C64", 64},        {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4}};

// Whether the shape has a number of elements, and these have exactly so many bytes. What a type
// that is not known takes is not known either.
bool fills(const StoredTensor& tensor, int64_t bytes) {
  const auto elements = checked_product(tensor.shape);
  if (!elements) return false;
  const auto* known =
      std::find_if(std::begin(kTypes), std::end(kTypes),
                   [&](const ElementType& type) { return type.name == tensor.type; });
  if (known == std::end(kTypes)) return true;
  const auto bits = checked_product({*elements, known->bits});
  return bits && *bits % 8 == 0 && *bits / 8 == bytes;
}

StoredTensor parse_tensor(std::string_view name, const JsonValue& entry, int64_t& end) {
  StoredTensor tensor;
  tensor.name = std::string(name);
  tensor.type = entry.at("dtype").as_string();
  for (const JsonValue size : entry.at("shape")) {
    if (size.as_int() < 0) size.reject("a dimension is negative");
    tensor.shape.push_back(size.as_int());
  }
  const JsonValue offsets = entry.at("data_offsets");
  if (offsets.size() != 2) offsets.reject("expected two numbers");
  tensor.begin = offsets.at(int64_t{0}).as_int();
  end = offsets.at(int64_t{1}).as_int();
  if (tensor.begin < 0 || end < tensor.begin || !fills(tensor, end - tensor.begin))
    entry.reject(fmt::format("shape {} of {} does not fill bytes {} to {}; the file is damaged",
                             tensor.shape_string(), tensor.type, tensor.begin, end));
  return tensor;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path) : TensorFile(std::move(path)) {
  const int64_t file_bytes = file_.bytes();
  check_content();
  uint64_t header_bytes = 0;
  file_.read_at(0, &header_bytes, 8);
  CHECK(header_bytes <= kMaxHeaderBytes && static_cast<int64_t>(header_bytes) <= file_bytes - 8,
        ExitCode::kBadData,
        "{}: the header claims {} bytes of a file of {}; it is damaged or no safetensors file",
        this->path(), header_bytes, file_bytes);
  std::string header(header_bytes, '\0');
  file_.read_at(8, header.data(), static_cast<int64_t>(header_bytes));
  CHECK(header.starts_with('{'), ExitCode::kBadData,
        "{}: the header does not begin with '{{'; it is damaged or no safetensors file",
        this->path());
  parse_header(header, 8 + static_cast<int64_t>(header_bytes), file_bytes);
}

void SafetensorsFile::check_content() const {
  const int64_t file_bytes = file_.bytes();
  const std::string beginning = beginning_of(file_);
  const ContentKind kind = content_kind(beginning);
  CHECK(kind == ContentKind::kUnknown || kind == ContentKind::kSafetensors, ExitCode::kBadData,
        "{}: {}", path(), not_what_was_expected(beginning, "a safetensors file"));
  CHECK(file_bytes >= 10, ExitCode::kBadData, "{}: {} bytes are no safetensors file", path(),
        file_bytes);
}

void SafetensorsFile::parse_header(const std::string& text, int64_t data_begin,
                                   int64_t file_bytes) {
  const JsonDocument header = JsonDocument::parse(text, path() + " (header)");
  const JsonValue root = header.root();
  std::vector<std::pair<int64_t, int64_t>> ranges;
  std::vector<std::string> names;
  for (int64_t i = 0; i < root.size(); ++i) {
    const auto [name, entry] = root.member(i);
    if (name == "__metadata__") {
      for (int64_t j = 0; j < entry.size(); ++j) {
        const auto [key, text_value] = entry.member(j);
        metadata_.emplace(key, text_value.as_string());
      }
      continue;
    }
    int64_t end = 0;
    StoredTensor tensor = parse_tensor(name, entry, end);
    ranges.emplace_back(tensor.begin, end);
    tensor.begin += data_begin;
    tensors_.emplace(tensor.name, std::move(tensor));
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    CHECK(begin == covered, ExitCode::kBadData,
          "{}: the tensors {} at data byte {}; the file is damaged", path(),
          begin < covered ? "overlap" : "leave a hole", std::min(begin, covered));
    covered = end;
  }
  CHECK(covered == file_bytes - data_begin, ExitCode::kBadData,
        "{}: the header describes {} bytes of data, the file holds {}; it is truncated or damaged",
        path(), covered, file_bytes - data_begin);
}

}  // namespace facet
