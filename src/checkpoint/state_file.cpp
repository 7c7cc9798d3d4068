#include "checkpoint/state_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_map>

#include "base/check.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/hdf5_file.h"
#include "io/input_file.h"
#include "io/shared_file.h"

namespace facet {

namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");

constexpr std::array<const char*, 3> kParts = {"fp32", "exp_avg", "exp_avg_sq"};

float* memory_of(const StateRange& range, size_t part) {
  return std::array{range.value, range.exp_avg, range.exp_avg_sq}[part];
}

std::string array_name(const Param& param, size_t part) {
  return "param/" + param.name + "/" + kParts[part];
}

int64_t bytes_of(int64_t elements) { return elements * int64_t{sizeof(float)}; }

// Name -> number of the array.
std::unordered_map<std::string, int64_t> index_of(const std::vector<StoredArray>& arrays) {
  std::unordered_map<std::string, int64_t> index;
  for (const StoredArray& array : arrays)
    index.emplace(array.name, static_cast<int64_t>(index.size()));
  return index;
}

// Calls visit(offset, bytes) for every stretch of the file outside the arrays.
void visit_rest(const std::vector<StoredArray>& arrays, int64_t file_bytes, const auto& visit) {
  std::vector<const StoredArray*> by_offset;
  for (const StoredArray& array : arrays) by_offset.push_back(&array);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const StoredArray* a, const StoredArray* b) { return a->offset < b->offset; });
  int64_t at = 0;
  for (const StoredArray* array : by_offset) {
    ASSERT(array->offset >= at, "{} overlaps another array", array->name);
    visit(at, array->offset - at);
    at = array->offset + array->bytes();
  }
  visit(at, file_bytes - at);
}

std::string rest_hash(const InputFile& file, const Manifest& manifest) {
  Hasher hasher;
  visit_rest(manifest.arrays, manifest.file_bytes,
             [&](int64_t offset, int64_t bytes) { file.hash_into(hasher, offset, bytes); });
  return hasher.digest();
}

// Creates the file without the arrays' values; fills in their offsets.
void write_structures(const std::string& path, const RunState& state,
                      std::vector<StoredArray>& arrays) {
  Hdf5File file = Hdf5File::create(path);
  file.write_attribute("/", "format", std::string("facet checkpoint"));
  visit_fields(
      state, [&](const char* name, const auto& value) { file.write_attribute("/", name, value); });
  for (const StoredArray& array : arrays) {
    file.reserve_f32(array.name, array.elements());
    file.write_attribute(array.name, "shape", array.shape);
    file.write_attribute(array.name, "group", array.group);
  }
  for (StoredArray& array : arrays) array.offset = file.offset_of(array.name);
  file.close();
}

}  // namespace

std::vector<StoredArray> arrays_of(std::span<const StoredParam> params) {
  std::vector<StoredArray> arrays;
  for (const StoredParam& stored : params)
    for (size_t part = 0; part < kParts.size(); ++part)
      arrays.push_back({array_name(*stored.param, part), stored.group, stored.param->shape, 0, {}});
  return arrays;
}

int64_t estimated_bytes(const std::vector<StoredArray>& arrays) {
  constexpr int64_t kHeaders = 1 << 16, kHeadersOfArray = 1 << 12;
  int64_t bytes = kHeaders;
  for (const StoredArray& array : arrays) bytes += array.bytes() + kHeadersOfArray;
  return bytes;
}

// HDF5 must not run into a full disk: it fails then, and crashes when MPI ends. So the space is
// reserved first, and freed again by creating the file anew just before it is used.
void create_state_file(const std::string& path, const RunState& state,
                       std::vector<StoredArray>& arrays) {
  SharedFile::create(path).reserve(estimated_bytes(arrays));
  write_structures(path, state, arrays);
  SharedFile file = SharedFile::open_for_writing(path);
  file.reserve(file.size());  // flushed by the ranks that write the values
}

std::vector<RangePart> parts_of(const std::vector<StoredArray>& arrays,
                                std::span<const StateRange> ranges) {
  const auto index = index_of(arrays);
  std::vector<RangePart> parts;
  for (const StateRange& range : ranges)
    for (size_t part = 0; part < kParts.size(); ++part)
      parts.push_back({index.at(array_name(*range.param, part)), range.begin, range.count,
                       memory_of(range, part)});
  std::sort(parts.begin(), parts.end(), [](const RangePart& a, const RangePart& b) {
    return std::pair(a.array, a.begin) < std::pair(b.array, b.begin);
  });
  return parts;
}

std::vector<WrittenRange> write_ranges(const std::string& path,
                                       const std::vector<StoredArray>& arrays,
                                       std::span<const StateRange> ranges,
                                       const WriteMoments& at_moment, std::stop_token stop) {
  const std::vector<RangePart> parts = parts_of(arrays, ranges);
  SharedFile file = SharedFile::open_for_writing(path);
  std::vector<WrittenRange> written;
  for (size_t i = 0; i < parts.size() && !stop.stop_requested(); ++i) {
    if (i == parts.size() / 2) at_moment("ckpt.write");
    const RangePart& part = parts[i];
    const auto* const memory = reinterpret_cast<const char*>(part.memory);
    const int64_t place = arrays[static_cast<size_t>(part.array)].offset + bytes_of(part.begin);
    const int64_t bytes = bytes_of(part.count);
    Hasher hasher;
    for (int64_t done = 0; done < bytes && !stop.stop_requested(); done += kWritePieceBytes) {
      const int64_t piece = std::min(kWritePieceBytes, bytes - done);
      hasher.update(memory + done, piece);
      file.write_at(place + done, memory + done, piece);
    }
    written.push_back({part.array, {part.begin, part.count, hasher.digest()}});
  }
  if (parts.empty()) at_moment("ckpt.write");
  file.close();
  at_moment("ckpt.written");
  verify_written(path, arrays, written, stop);
  return written;
}

void verify_written(const std::string& path, const std::vector<StoredArray>& arrays,
                    std::span<const WrittenRange> written, std::stop_token stop) {
  const InputFile file(path, ExitCode::kIo);
  file.drop_from_cache();  // the page cache would only return what was written
  for (const WrittenRange& w : written) {
    if (stop.stop_requested()) return;
    const StoredArray& array = arrays[static_cast<size_t>(w.array)];
    Hasher hasher;
    file.hash_into(hasher, array.offset + bytes_of(w.range.begin), bytes_of(w.range.count));
    CHECK(hasher.digest() == w.range.hash, ExitCode::kIo,
          "{}: elements {} to {} of {} do not read back as they were written; is the disk failing?",
          path, w.range.begin, w.range.begin + w.range.count - 1, array.name);
  }
}

void seal_state_file(const std::string& path, Manifest& manifest) {
  const InputFile file(path, ExitCode::kIo);
  manifest.file_bytes = file.bytes();
  manifest.rest_hash = rest_hash(file, manifest);
}

void verify_state_file(const std::string& path, const Manifest& manifest, int64_t part,
                       int64_t parts) {
  const InputFile file(path, ExitCode::kIo);
  CHECK(file.bytes() == manifest.file_bytes, ExitCode::kBadData, "{}: has {} bytes instead of {}",
        path, file.bytes(), manifest.file_bytes);
  if (part == 0)
    CHECK(rest_hash(file, manifest) == manifest.rest_hash, ExitCode::kBadData,
          "{}: damaged: the bytes around the arrays do not have the manifest's hash", path);
  int64_t number = 0;
  for (const StoredArray& array : manifest.arrays)
    for (const StoredRange& range : array.ranges) {
      if (number++ % parts != part) continue;
      Hasher hasher;
      file.hash_into(hasher, array.offset + bytes_of(range.begin), bytes_of(range.count));
      CHECK(hasher.digest() == range.hash, ExitCode::kBadData,
            "{}: damaged: elements {} to {} of {} do not have the manifest's hash", path,
            range.begin, range.begin + range.count - 1, array.name);
    }
}

void read_ranges(const std::string& path, const Manifest& manifest,
                 std::span<const StateRange> ranges) {
  const auto index = index_of(manifest.arrays);
  const InputFile file(path, ExitCode::kIo);
  for (const StateRange& range : ranges)
    for (size_t part = 0; part < kParts.size(); ++part) {
      const auto found = index.find(array_name(*range.param, part));
      ASSERT(found != index.end(), "{} was not compared", range.param->name);
      const StoredArray& array = manifest.arrays[static_cast<size_t>(found->second)];
      file.read_at(array.offset + bytes_of(range.begin), memory_of(range, part),
                   bytes_of(range.count));
    }
}

}  // namespace facet
