#include "io/torch_file.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/content_kind.h"
#include "io/pickle.h"
#include "io/strided_view.h"

namespace facet {

namespace {

using Kind = PickleValue::Kind;

constexpr int64_t kMaxContentBytes = int64_t{1} << 26;
constexpr size_t kMaxDimensions = 64;
constexpr std::string_view kPickleEnd = "/data.pkl";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildUntyped = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";
constexpr std::string_view kAllowed[] = {kRebuildTensor,          kRebuildUntyped,
                                         kRebuildParameter,       kUntypedStorage,
                                         "torch.float8_e4m3fn",   "torch.float8_e5m2",
                                         "torch.float8_e4m3fnuz", "torch.float8_e5m2fnuz",
                                         "torch.uint16",          "torch.uint32",
                                         "torch.uint64",          "torch.FloatStorage",
                                         "torch.HalfStorage",     "torch.BFloat16Storage",
                                         "torch.DoubleStorage",   "torch.LongStorage",
                                         "torch.IntStorage",      "torch.ShortStorage",
                                         "torch.CharStorage",     "torch.ByteStorage",
                                         "torch.BoolStorage",     "torch.ComplexFloatStorage",
                                         "torch.complex32",       "torch.ComplexDoubleStorage"};

// A class of storages with one type of elements, or an element type of untyped storages.
struct StorageType {
  std::string_view global;
  std::string_view type;
  int64_t bytes;
};
constexpr StorageType kStorageTypes[] = {
    {"torch.FloatStorage", "F32", 4},        {"torch.HalfStorage", "F16", 2},
    {"torch.BFloat16Storage", "BF16", 2},    {"torch.DoubleStorage", "F64", 8},
    {"torch.LongStorage", "I64", 8},         {"torch.IntStorage", "I32", 4},
    {"torch.ShortStorage", "I16", 2},        {"torch.CharStorage", "I8", 1},
    {"torch.ByteStorage", "U8", 1},          {"torch.BoolStorage", "BOOL", 1},
    {"torch.ComplexFloatStorage", "C64", 8}, {"torch.ComplexDoubleStorage", "C128", 16}};
constexpr StorageType kElementTypes[] = {{"torch.float8_e4m3fn", "F8_E4M3", 1},
                                         {"torch.float8_e5m2", "F8_E5M2", 1},
                                         {"torch.float8_e4m3fnuz", "F8_E4M3FNUZ", 1},
                                         {"torch.float8_e5m2fnuz", "F8_E5M2FNUZ", 1},
                                         {"torch.uint16", "U16", 2},
                                         {"torch.uint32", "U32", 4},
                                         {"torch.uint64", "U64", 8},
                                         {"torch.complex32", "C32", 4}};

const StorageType* type_called(std::span<const StorageType> types, std::string_view global) {
  const auto found = std::ranges::find(types, global, &StorageType::global);
  return found == types.end() ? nullptr : &*found;
}

const char* why_no_torch_zip(ContentKind kind) {
  switch (kind) {
    case ContentKind::kPickle:
      return "a file of PyTorch before 1.6 (a pickle without a zip file around it); save it again "
             "with a newer PyTorch: torch.save(torch.load(old), new)";
    case ContentKind::kTar:
      return "a tar archive, as PyTorch before 0.1.12 wrote; save it again with a newer PyTorch: "
             "torch.save(torch.load(old), new)";
    default: return nullptr;
  }
}

// What stands in the file before its end is looked for.
void check_content(const InputFile& file) {
  const std::string beginning = beginning_of(file);
  const ContentKind kind = content_kind(beginning);
  if (kind == ContentKind::kZip || kind == ContentKind::kTorchZip) return;
  if (const char* old = why_no_torch_zip(kind))
    fail(ExitCode::kBadData, "{}: {}", file.path(), old);
  CHECK(kind == ContentKind::kUnknown, ExitCode::kBadData, "{}: {}", file.path(),
        not_what_was_expected(beginning, "a PyTorch file"));
  fail(ExitCode::kBadData,
       "{}: no zip file, as torch.save() writes; it is damaged or no PyTorch file", file.path());
}

// NAME of the one NAME/data.pkl.
std::string archive_name(const std::string& path, const std::map<std::string, ZipEntry>& entries) {
  for (const auto& [name, entry] : entries) {
    const size_t end = name.find('/');
    if (end != name.npos && std::string_view(name).substr(end) == kPickleEnd)
      return name.substr(0, end);
  }
  fail(ExitCode::kBadData, "{}: a zip file without a data.pkl; torch.save() did not write it",
       path);
}

// Turns the values of the pickle into tensors of the file.
class Tensors {
 public:
  Tensors(const std::string& path, const std::string& archive,
          const std::map<std::string, ZipEntry>& entries)
      : path_(path), archive_(archive), entries_(entries) {}

  // The tensor, and the name of its entry.
  std::pair<StoredTensor, std::string> read(const std::string& name,
                                            const PickleValue& value) const;

 private:
  struct Storage {
    const StorageType* type;
    std::string entry;
    int64_t elements;
  };

  [[noreturn]] void refuse(const std::string& name, std::string_view what) const {
    fail(ExitCode::kBadData, "{}: {}: {}; the file is damaged", path_, name, what);
  }
  // dtype: of an untyped storage's elements; nullptr where the storage has a type.
  Storage storage(const std::string& name, const PickleValue& value,
                  const PickleValue* dtype) const;
  std::vector<int64_t> sizes(const std::string& name, const PickleValue& value) const;

  const std::string& path_;
  const std::string& archive_;
  const std::map<std::string, ZipEntry>& entries_;
};

// The arguments of a call of this function with so many; nullptr if the value is none.
const std::vector<const PickleValue*>* arguments_of(const PickleValue& value,
                                                    std::string_view function, size_t least,
                                                    size_t most) {
  if (value.kind != Kind::kCall || value.text != function) return nullptr;
  const auto& arguments = value.items[0]->items;
  return arguments.size() >= least && arguments.size() <= most ? &arguments : nullptr;
}

// An untyped storage counts its bytes.
Tensors::Storage Tensors::storage(const std::string& name, const PickleValue& value,
                                  const PickleValue* dtype) const {
  if (value.kind != Kind::kPersistent || value.items[0]->kind != Kind::kTuple)
    refuse(name, "a tensor without a storage");
  const auto& id = value.items[0]->items;
  constexpr Kind kKinds[] = {Kind::kText, Kind::kGlobal, Kind::kText, Kind::kText, Kind::kInt};
  const bool known =
      std::equal(id.begin(), id.end(), std::begin(kKinds), std::end(kKinds),
                 [](const PickleValue* part, Kind kind) { return part->kind == kind; });
  if (!known || id[0]->text != "storage") refuse(name, "a storage of an unknown form");
  const StorageType* type = nullptr;
  if (dtype == nullptr)
    type = type_called(kStorageTypes, id[1]->text);
  else if (id[1]->text == kUntypedStorage)
    type = type_called(kElementTypes, dtype->text);
  if (type == nullptr) refuse(name, "a storage of no known type");
  const std::string entry = fmt::format("{}/data/{}", archive_, id[2]->text);
  const auto found = entries_.find(entry);
  if (found == entries_.end()) refuse(name, fmt::format("there is no {}", entry));
  const auto bytes = checked_product({id[4]->integer, dtype == nullptr ? type->bytes : 1});
  if (!bytes || *bytes != found->second.bytes)
    refuse(name,
           fmt::format("{} has {} bytes, not {} {}{}", entry, found->second.bytes, id[4]->integer,
                       dtype == nullptr ? "elements of " : "bytes of ", type->type));
  return {type, entry, *bytes / type->bytes};
}

std::vector<int64_t> Tensors::sizes(const std::string& name, const PickleValue& value) const {
  std::vector<int64_t> numbers;
  if (value.kind != Kind::kTuple || value.items.size() > kMaxDimensions)
    refuse(name, fmt::format("a shape that is no tuple of up to {} sizes", kMaxDimensions));
  for (const PickleValue* item : value.items) {
    if (item->kind != Kind::kInt || item->integer < 0) refuse(name, "a shape or stride is no size");
    numbers.push_back(item->integer);
  }
  return numbers;
}

// The elements from a view's first to its last, both included; nothing if they are too many.
std::optional<int64_t> span_of(const std::vector<int64_t>& shape,
                               const std::vector<int64_t>& strides) {
  int64_t span = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    const auto step = checked_product({std::max(shape[i] - 1, int64_t{0}), strides[i]});
    if (!step || __builtin_add_overflow(span, *step, &span)) return std::nullopt;
  }
  return span;
}

std::pair<StoredTensor, std::string> Tensors::read(const std::string& name,
                                                   const PickleValue& value) const {
  const auto* parameter = arguments_of(value, kRebuildParameter, 3, 3);
  const PickleValue& call = parameter != nullptr ? *parameter->front() : value;
  const auto* typed = arguments_of(call, kRebuildTensor, 6, 7);
  const auto* found = typed != nullptr ? typed : arguments_of(call, kRebuildUntyped, 7, 8);
  CHECK(found != nullptr, ExitCode::kBadData,
        "{}: {} is {}, not a tensor; only a dictionary of tensors is read. Save the part that is "
        "one on its own in Python: torch.save(part, file)",
        path_, name, name_of(value.kind));
  const auto& arguments = *found;
  const size_t needed = typed != nullptr ? 6 : 7;
  CHECK(arguments.size() == needed || arguments[needed]->items.empty(), ExitCode::kBadData,
        "{}: {} is a view that negates or conjugates its values; save it resolved in Python: "
        "tensor.resolve_conj().resolve_neg()",
        path_, name);
  const Storage in = storage(name, *arguments[0], typed != nullptr ? nullptr : arguments[6]);
  StoredTensor tensor{.name = name, .type = std::string(in.type->type), .shape = {}};
  tensor.shape = sizes(name, *arguments[2]);
  tensor.strides = sizes(name, *arguments[3]);
  if (tensor.strides.size() != tensor.shape.size())
    refuse(name, "shape and strides differ in length");
  const PickleValue& offset = *arguments[1];
  const auto elements = checked_product(tensor.shape);
  const auto span = span_of(tensor.shape, tensor.strides);
  const int64_t first = offset.kind == Kind::kInt ? offset.integer : -1;
  if (!elements || !span || !lies_within(first, *elements == 0 ? 0 : *span, in.elements))
    refuse(name, fmt::format("{} does not lie within its storage", tensor.shape_string()));
  tensor.begin = entries_.at(in.entry).begin + first * in.type->bytes;
  if (is_contiguous(tensor.shape, tensor.strides)) tensor.strides.clear();
  return {std::move(tensor), in.entry};
}

}  // namespace

bool is_torch_name(std::string_view path) {
  return path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth");
}

TorchFile::TorchFile(std::string path) : TensorFile(std::move(path)) {
  check_content(file_);
  entries_ = read_zip_directory(file_);
  const std::string archive = archive_name(this->path(), entries_);
  CHECK(!entries_.contains(archive + "/constants.pkl"), ExitCode::kBadData,
        "{}: a TorchScript archive, not a dictionary of tensors; save the weights in Python: "
        "torch.save(torch.jit.load(file).state_dict(), new)",
        this->path());
  for (const auto& [name, entry] : entries_)
    CHECK(entry.packed == nullptr, ExitCode::kBadData, "{}: {} is {}; PyTorch writes no such file",
          this->path(), name, entry.packed);
  const std::string order = archive + "/byteorder";  // since PyTorch 2.1
  CHECK(!entries_.contains(order) || content_of(order) == "little", ExitCode::kBadData,
        "{}: written by a machine of the other byte order; save it again on a little-endian one",
        this->path());
  read_pickle(archive);
}

std::string TorchFile::content_of(const std::string& name) const {
  const ZipEntry& entry = entries_.at(name);
  CHECK(entry.bytes <= kMaxContentBytes, ExitCode::kBadData,
        "{}: {} has {} bytes; up to {} are read", path(), name, entry.bytes, kMaxContentBytes);
  check_crc(name);
  std::string text(static_cast<size_t>(entry.bytes), '\0');
  file_.read_at(entry.begin, text.data(), entry.bytes);
  return text;
}

void TorchFile::read_pickle(const std::string& archive) {
  const Pickle pickle(content_of(archive + std::string(kPickleEnd)), path(), kAllowed);
  const PickleValue& root = pickle.root();
  CHECK(root.kind == Kind::kDict, ExitCode::kBadData,
        "{}: holds {}, not a dictionary of tensors; save its state_dict() in Python", path(),
        name_of(root.kind));
  const Tensors tensors(path(), archive, entries_);
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const PickleValue& key = *root.items[i];
    CHECK(key.kind == Kind::kText, ExitCode::kBadData,
          "{}: {} is a key; names of tensors are strings", path(), name_of(key.kind));
    auto [tensor, storage] = tensors.read(key.text, *root.items[i + 1]);
    CHECK(tensors_.emplace(key.text, std::move(tensor)).second, ExitCode::kBadData,
          "{}: {} occurs twice; the file is damaged", path(), key.text);
    entry_of_.emplace(key.text, std::move(storage));
  }
}

void TorchFile::check_before_reading(const StoredTensor& tensor) const {
  check_crc(entry_of_.find(tensor.name)->second);
}

void TorchFile::check_crc(const std::string& name) const {
  const ZipEntry& entry = entries_.at(name);
  if (entry.crc == 0 || sound_.contains(name)) return;  // 0: PyTorch was told to compute none
  CHECK(crc32_of(file_, entry.begin, entry.bytes) == entry.crc, ExitCode::kBadData,
        "{}: {} does not have the CRC-32 that the zip file says; it is damaged, fetch it again",
        path(), name);
  sound_.insert(name);
}

}  // namespace facet
