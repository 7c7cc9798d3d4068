#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <filesystem>

#include "base/check.h"
#include "base/checked_math.h"
#include "base/half.h"
#include "io/content_kind.h"
#include "io/json.h"

namespace facet {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kPieceElements = int64_t{1} << 18;

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

struct OtherWeights {
  std::string_view file;  // the begin of its name
  std::string_view what;
};
constexpr std::string_view kConvertPickle =
    "reading PyTorch pickles is not supported yet; convert it in Python with "
    "model.save_pretrained(directory, safe_serialization=True)";
constexpr std::string_view kMergeAdapter =
    "these are the weights of an adapter (PEFT), not of a model; merge it into its base model in "
    "Python: PeftModel.from_pretrained(base, directory).merge_and_unload().save_pretrained(out)";
constexpr std::string_view kConvertOriginal =
    "the original format of the model's makers; give the converted repository (for Llama its name "
    "ends in -hf)";
constexpr std::string_view kShardsOnly =
    "a shard without its model.safetensors.index.json; fetch that file too";
constexpr std::string_view kOtherName = "no name that is looked for";
constexpr OtherWeights kOtherWeights[] = {
    {"adapter_model.", kMergeAdapter},
    {"pytorch_model", kConvertPickle},
    {"consolidated", kConvertOriginal},
    {"tf_model", "weights of TensorFlow; convert them in Python"},
    {"flax_model", "weights of Flax; convert them in Python"},
};

}  // namespace

std::string StoredTensor::shape_string() const {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + ")";
}

bool StoredTensor::is_real() const {
  return type == "F32" || type == "BF16" || type == "F16" || type == "F64";
}

// ---- SafetensorsFile ----

SafetensorsFile::SafetensorsFile(std::string path) : file_(std::move(path)) {
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
  std::string beginning(static_cast<size_t>(std::min(file_bytes, kContentKindBytes)), '\0');
  file_.read_at(0, beginning.data(), static_cast<int64_t>(beginning.size()));
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

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const StoredTensor& SafetensorsFile::checked_range(std::string_view name, int64_t begin,
                                                   int64_t count) const {
  const StoredTensor* tensor = find(name);
  CHECK(tensor != nullptr, ExitCode::kBadData, "{}: there is no tensor {}", path(), name);
  ASSERT(begin >= 0 && count >= 0 && begin <= tensor->numel() - count, "elements {} to {} of {} {}",
         begin, begin + count, name, tensor->shape_string());
  return *tensor;
}

void SafetensorsFile::read_f32(std::string_view name, int64_t begin, int64_t count,
                               float* out) const {
  const StoredTensor& tensor = checked_range(name, begin, count);
  CHECK(tensor.is_real(), ExitCode::kBadData,
        "{}: {} is {}, a parameter must be F32, BF16, F16 or F64", path(), name, tensor.type);
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

void SafetensorsFile::read_i64(std::string_view name, int64_t begin, int64_t count,
                               int64_t* out) const {
  const StoredTensor& tensor = checked_range(name, begin, count);
  if (tensor.type == "I64") return file_.read_at(tensor.begin + 8 * begin, out, 8 * count);
  CHECK(tensor.type == "U8", ExitCode::kBadData, "{}: {} is {}, expected integers", path(), name,
        tensor.type);
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  file_.read_at(tensor.begin + begin, bytes.data(), count);
  std::copy(bytes.begin(), bytes.end(), out);
}

// ---- TensorDirectory ----

std::string what_lies_there_instead(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  const auto tell = [](const std::string& name, std::string_view what) {
    return fmt::format("; it holds {}: {}", name, what);
  };
  for (const OtherWeights& other : kOtherWeights)
    for (const std::string& name : names)
      if (name.starts_with(other.file)) return tell(name, other.what);
  if (TensorDirectory::is_there(directory)) return "";
  for (const std::string& name : names) {
    if (name.starts_with("model-0")) return tell(name, kShardsOnly);
    if (name.ends_with(".safetensors") || name.ends_with(".gguf")) return tell(name, kOtherName);
  }
  return "";
}

TensorDirectory::TensorDirectory(std::string directory) : directory_(std::move(directory)) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  CHECK(fs::is_directory(directory_, ignored), ExitCode::kMissingInput,
        "{}: no such directory; a model is given as a local directory", directory_);
  const std::string single = directory_ + "/model.safetensors";
  const std::string index = single + ".index.json";
  if (fs::exists(single, ignored)) {
    add_file(single);
    return;
  }
  if (fs::exists(index, ignored)) {
    open_index(index);
    return;
  }
  fail(ExitCode::kMissingInput, "{}: neither model.safetensors nor model.safetensors.index.json{}",
       directory_, what_lies_there_instead(directory_));
}

bool TensorDirectory::is_there(const std::string& directory) {
  std::error_code ignored;
  const std::string single = directory + "/model.safetensors";
  return std::filesystem::exists(single, ignored) ||
         std::filesystem::exists(single + ".index.json", ignored);
}

TensorDirectory TensorDirectory::of_file(const std::string& path) {
  TensorDirectory result;
  result.directory_ = path;
  result.add_file(path);
  return result;
}

void TensorDirectory::add_file(const std::string& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  for (const auto& [name, tensor] : files_.back()->tensors())
    owner_.emplace(name, files_.back().get());
}

void TensorDirectory::open_index(const std::string& index_path) {
  const JsonDocument index = JsonDocument::read(index_path, ExitCode::kBadData, kMaxHeaderBytes);
  const JsonValue weight_map = index.root().at("weight_map");
  std::map<std::string, const SafetensorsFile*, std::less<>> opened;
  for (int64_t i = 0; i < weight_map.size(); ++i) {
    const auto [name, entry] = weight_map.member(i);
    const std::string file_name(entry.as_string());
    if (file_name.find('/') != std::string::npos)
      entry.reject("a shard must be in the same directory as the index");
    auto found = opened.find(file_name);
    if (found == opened.end()) {
      files_.push_back(std::make_unique<SafetensorsFile>(directory_ + "/" + file_name));
      found = opened.emplace(file_name, files_.back().get()).first;
    }
    if (found->second->find(name) == nullptr)
      entry.reject(
          "the shard does not hold this tensor; the index and the shards do not belong "
          "together");
    owner_.emplace(name, found->second);
  }
  for (const auto& file : files_)
    for (const auto& [name, tensor] : file->tensors()) {
      const auto found = owner_.find(name);
      CHECK(found != owner_.end() && found->second == file.get(), ExitCode::kBadData,
            "{}: does not name {} of {}; the index and the shards do not belong together",
            index_path, name, file->path());
    }
}

const SafetensorsFile& TensorDirectory::file_of(std::string_view name) const {
  const auto found = owner_.find(name);
  CHECK(found != owner_.end(), ExitCode::kBadData, "{}: there is no tensor {}", directory_, name);
  return *found->second;
}

std::vector<std::string> TensorDirectory::names() const {
  std::vector<std::string> all;
  for (const auto& [name, file] : owner_) all.push_back(name);
  return all;
}

const StoredTensor* TensorDirectory::find(std::string_view name) const {
  const auto found = owner_.find(name);
  return found == owner_.end() ? nullptr : found->second->find(name);
}

const std::string& TensorDirectory::path_of(std::string_view name) const {
  return file_of(name).path();
}

void TensorDirectory::read_f32(std::string_view name, int64_t begin, int64_t count,
                               float* out) const {
  file_of(name).read_f32(name, begin, count, out);
}

}  // namespace facet
