#include "io/hdf5_file.h"

#include <utility>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/hdf5_handle.h"
#include "io/input_file.h"

namespace facet {

namespace {

static_assert(sizeof(hid_t) == sizeof(int64_t));

using hdf5::checked;
using hdf5::Handle;

template <typename T>
hid_t native_type();
template <>
hid_t native_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t native_type<int32_t>() {
  return H5T_NATIVE_INT32;
}
template <>
hid_t native_type<int64_t>() {
  return H5T_NATIVE_INT64;
}

template <>
hid_t native_type<double>() {
  return H5T_NATIVE_DOUBLE;
}

template <typename T>
void write_dataset(hid_t file, const std::string& path, const std::string& name, const T* data,
                   const std::vector<int64_t>& shape) {
  ASSERT(file >= 0, "{} is closed", path);
  ASSERT(!shape.empty() && shape.size() <= 4, "{}: {} dimensions", name, shape.size());
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const auto io = ExitCode::kIo;
  const Handle space(checked(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                             io, path, "the shape of " + name),
                     H5Sclose);
  const Handle links(checked(H5Pcreate(H5P_LINK_CREATE), io, path, name), H5Pclose);
  checked(H5Pset_create_intermediate_group(links.get(), 1), io, path, name);
  const Handle dataset(checked(H5Dcreate2(file, name.c_str(), native_type<T>(), space.get(),
                                          links.get(), H5P_DEFAULT, H5P_DEFAULT),
                               io, path, "making " + name),
                       H5Dclose);
  checked(H5Dwrite(dataset.get(), native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data), io, path,
          "writing " + name);
}

std::vector<int64_t> dataset_shape(hid_t dataset, const std::string& path,
                                   const std::string& name) {
  const Handle space(checked(H5Dget_space(dataset), ExitCode::kBadData, path, name), H5Sclose);
  const int rank = checked(H5Sget_simple_extent_ndims(space.get()), ExitCode::kBadData, path, name);
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  checked(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr), ExitCode::kBadData, path,
          name);
  return {dims.begin(), dims.end()};
}

// Data sets are stored uncompressed, so a valid one never claims more bytes than are stored.
int64_t checked_bytes(hid_t dataset, const std::string& path, const std::string& name,
                      int64_t element_bytes, int64_t file_bytes) {
  const auto elements = checked_product(dataset_shape(dataset, path, name));
  const auto bytes = checked_product({elements.value_or(-1), element_bytes});
  const hsize_t stored = H5Dget_storage_size(dataset);
  CHECK(bytes && static_cast<hsize_t>(*bytes) <= stored && *bytes <= file_bytes, ExitCode::kBadData,
        "{}: {} claims more elements than its {} stored bytes in a file of {}; the file is damaged",
        path, name, stored, file_bytes);
  return *bytes;
}

void check_storage(hid_t dataset, const std::string& path, const std::string& name) {
  const auto bad = ExitCode::kBadData;
  const Handle creation(checked(H5Dget_create_plist(dataset), bad, path, name), H5Pclose);
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  const bool inside = layout == H5D_CONTIGUOUS || layout == H5D_COMPACT || layout == H5D_CHUNKED;
  CHECK(inside && H5Pget_external_count(creation.get()) == 0, bad,
        "{}: {} is stored in other files; copy its values into this one", path, name);
  CHECK(H5Pget_nfilters(creation.get()) == 0, bad,
        "{}: {} is compressed or filtered otherwise, which is not read; write it without", path,
        name);
}

template <typename T>
void write_numbers(hid_t file, const std::string& path, const std::string& object,
                   const std::string& key, hid_t space_id, const T* numbers) {
  const auto io = ExitCode::kIo;
  const std::string what = "attribute " + key + " of " + object;
  const Handle space(checked(space_id, io, path, what), H5Sclose);
  const Handle attribute(
      checked(H5Acreate_by_name(file, object.c_str(), key.c_str(), native_type<T>(), space.get(),
                                H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
              io, path, what),
      H5Aclose);
  checked(H5Awrite(attribute.get(), native_type<T>(), numbers), io, path, what);
}

}  // namespace

Hdf5File Hdf5File::create(const std::string& path) {
  hdf5::prepare_library();
  const Handle access = hdf5::writing_access(path);
  return Hdf5File(path, checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()),
                                ExitCode::kIo, path, "creating the file"));
}

Hdf5File Hdf5File::append(const std::string& path) {
  hdf5::prepare_library();
  const Handle access = hdf5::writing_access(path);
  return Hdf5File(path, checked(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), ExitCode::kIo,
                                path, "opening the file for writing"));
}

Hdf5File Hdf5File::open(const std::string& path) {
  hdf5::prepare_library();
  const int64_t bytes = InputFile(path).bytes();
  Hdf5File file(path, checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT),
                              ExitCode::kBadData, path, "opening the file"));
  file.file_bytes_ = bytes;
  return file;
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      file_bytes_(other.file_bytes_),
      read_bytes_(other.read_bytes_) {}

Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(file_bytes_, other.file_bytes_);
  std::swap(read_bytes_, other.read_bytes_);
  return *this;
}

Hdf5File::~Hdf5File() {
  if (file_ >= 0) H5Fclose(file_);
}

void Hdf5File::close() {
  if (file_ < 0) return;
  checked(H5Fflush(file_, H5F_SCOPE_GLOBAL), ExitCode::kIo, path_, "flushing the file");
  checked(H5Fclose(std::exchange(file_, -1)), ExitCode::kIo, path_, "closing the file");
}

void Hdf5File::write(const std::string& name, const float* data,
                     const std::vector<int64_t>& shape) {
  write_dataset(file_, path_, name, data, shape);
}
void Hdf5File::write(const std::string& name, const int32_t* data,
                     const std::vector<int64_t>& shape) {
  write_dataset(file_, path_, name, data, shape);
}
void Hdf5File::write(const std::string& name, const int64_t* data,
                     const std::vector<int64_t>& shape) {
  write_dataset(file_, path_, name, data, shape);
}

int64_t Hdf5File::open_dataset(const std::string& name) const {
  ASSERT(file_ >= 0, "{} is closed", path_);
  static_cast<void>(exists(name));  // no link leads there
  const hid_t dataset = checked(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), ExitCode::kBadData,
                                path_, "opening " + name);
  return dataset;
}

void Hdf5File::charge(const std::string& name, int64_t bytes) const {
  CHECK(bytes <= 2 * file_bytes_ - read_bytes_, ExitCode::kBadData,
        "{}: up to {}, the data sets have more than twice the {} bytes of the file; are many names "
        "given to one data set?",
        path_, name, file_bytes_);
  read_bytes_ += bytes;
}

template <typename T>
std::vector<T> Hdf5File::read(const std::string& name) const {
  const auto bad = ExitCode::kBadData;
  const Handle dataset(open_dataset(name), H5Dclose);
  check_storage(dataset.get(), path_, name);
  const Handle type(checked(H5Dget_type(dataset.get()), bad, path_, name), H5Tclose);
  CHECK(H5Tget_class(type.get()) == H5Tget_class(native_type<T>()) &&
            H5Tget_size(type.get()) == sizeof(T),
        bad, "{}: {} does not have the expected element type", path_, name);
  const int64_t bytes = checked_bytes(dataset.get(), path_, name, sizeof(T), file_bytes_);
  charge(name, bytes);
  std::vector<T> data(static_cast<size_t>(bytes) / sizeof(T));
  if (data.empty()) return data;
  checked(H5Dread(dataset.get(), native_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()), bad,
          path_, "reading " + name);
  return data;
}

std::vector<float> Hdf5File::read_f32(const std::string& name) const { return read<float>(name); }
std::vector<int32_t> Hdf5File::read_i32(const std::string& name) const {
  return read<int32_t>(name);
}
std::vector<int64_t> Hdf5File::read_i64(const std::string& name) const {
  return read<int64_t>(name);
}

void Hdf5File::reserve_f32(const std::string& name, int64_t elements) {
  const auto io = ExitCode::kIo;
  const auto dims = static_cast<hsize_t>(elements);
  const Handle space(checked(H5Screate_simple(1, &dims, nullptr), io, path_, name), H5Sclose);
  const Handle links(checked(H5Pcreate(H5P_LINK_CREATE), io, path_, name), H5Pclose);
  checked(H5Pset_create_intermediate_group(links.get(), 1), io, path_, name);
  const Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), io, path_, name), H5Pclose);
  checked(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), io, path_, name);
  checked(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), io, path_, name);
  checked(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), io, path_, name);
  const Handle dataset(checked(H5Dcreate2(file_, name.c_str(), H5T_IEEE_F32LE, space.get(),
                                          links.get(), creation.get(), H5P_DEFAULT),
                               io, path_, "making " + name),
                       H5Dclose);
}

int64_t Hdf5File::offset_of(const std::string& name) const {
  const Handle dataset(open_dataset(name), H5Dclose);
  const haddr_t offset = H5Dget_offset(dataset.get());
  CHECK(offset != HADDR_UNDEF, ExitCode::kIo, "{}: {} has no offset in the file", path_, name);
  return static_cast<int64_t>(offset);
}

bool Hdf5File::exists(const std::string& name) const {
  if (name == "/") return true;
  // H5Lexists needs every link of the path before the last to exist.
  for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    const std::string part = name.substr(0, slash);
    H5L_info_t link;
    if (H5Lexists(file_, part.c_str(), H5P_DEFAULT) <= 0 ||
        H5Lget_info(file_, part.c_str(), &link, H5P_DEFAULT) < 0) {
      H5Eclear2(H5E_DEFAULT);
      return false;
    }
    CHECK(link.type == H5L_TYPE_HARD, ExitCode::kBadData,
          "{}: {} is a link to another place or file, which is not followed; copy what it names",
          path_, part);
    if (slash == std::string::npos) return true;
  }
}

std::vector<int64_t> Hdf5File::shape(const std::string& name) const {
  const Handle dataset(open_dataset(name), H5Dclose);
  return dataset_shape(dataset.get(), path_, name);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& key,
                               const std::string& text) {
  const auto io = ExitCode::kIo;
  const std::string what = "attribute " + key + " of " + object;
  // A fixed-length string has at least one byte; the empty text is that one zero byte.
  const std::string stored = text.empty() ? std::string(1, '\0') : text;
  const Handle type(checked(H5Tcopy(H5T_C_S1), io, path_, what), H5Tclose);
  checked(H5Tset_size(type.get(), stored.size()), io, path_, what);
  checked(H5Tset_cset(type.get(), H5T_CSET_UTF8), io, path_, what);
  checked(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), io, path_, what);
  const Handle space(checked(H5Screate(H5S_SCALAR), io, path_, what), H5Sclose);
  const Handle attribute(
      checked(H5Acreate_by_name(file_, object.c_str(), key.c_str(), type.get(), space.get(),
                                H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
              io, path_, what),
      H5Aclose);
  checked(H5Awrite(attribute.get(), type.get(), stored.data()), io, path_, what);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& key,
                               const std::vector<int64_t>& numbers) {
  const auto length = static_cast<hsize_t>(numbers.size());
  constexpr int64_t kNone = 0;  // the library wants an address even for zero elements
  write_numbers(file_, path_, object, key, H5Screate_simple(1, &length, nullptr),
                numbers.empty() ? &kNone : numbers.data());
}
void Hdf5File::write_attribute(const std::string& object, const std::string& key, int64_t number) {
  write_numbers(file_, path_, object, key, H5Screate(H5S_SCALAR), &number);
}
void Hdf5File::write_attribute(const std::string& object, const std::string& key, double number) {
  write_numbers(file_, path_, object, key, H5Screate(H5S_SCALAR), &number);
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& key) const {
  const htri_t found = H5Aexists_by_name(file_, object.c_str(), key.c_str(), H5P_DEFAULT);
  H5Eclear2(H5E_DEFAULT);
  return found > 0;
}

std::string Hdf5File::read_attribute(const std::string& object, const std::string& key) const {
  const auto bad = ExitCode::kBadData;
  const std::string what = "attribute " + key + " of " + object;
  const Handle attribute(
      checked(H5Aopen_by_name(file_, object.c_str(), key.c_str(), H5P_DEFAULT, H5P_DEFAULT), bad,
              path_, what),
      H5Aclose);
  const Handle type(checked(H5Aget_type(attribute.get()), bad, path_, what), H5Tclose);
  CHECK(H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0, bad,
        "{}: {} is not a text of fixed length", path_, what);
  std::string text(H5Tget_size(type.get()), '\0');
  checked(H5Aread(attribute.get(), type.get(), text.data()), bad, path_, what);
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

}  // namespace facet
