// Files as torch.save() writes them, by hand: a zip file with stored entries, and in it a pickle of
// protocol 2 with a dictionary of fp32 tensors.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace facet {

template <typename T>
std::string bytes_of(T number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

// The fields of an entry that a test may want otherwise than they are.
struct ZipContent {
  std::string name, content;
  uint16_t flags = 0, method = 0;
  uint32_t crc_change = 0;
};

// With `zip64` every number that may stand in the zip64 parts does.
inline std::string zip_of(const std::vector<ZipContent>& entries, bool zip64 = false) {
  const auto number = [&](size_t value) {
    return bytes_of(zip64 ? ~uint32_t{0} : static_cast<uint32_t>(value));
  };
  std::string file, directory;
  for (const auto& [name, content, flags, method, crc_change] : entries) {
    const auto* data = reinterpret_cast<const unsigned char*>(content.data());
    const auto crc = static_cast<uint32_t>(crc32(0, data, static_cast<uInt>(content.size())));
    const size_t local = file.size();
    const std::string begin = bytes_of<uint16_t>(45) + bytes_of(flags) + bytes_of(method) +
                              bytes_of<uint32_t>(0) + bytes_of(crc ^ crc_change);
    file += "PK\3\4" + begin + number(content.size()) + number(content.size()) +
            bytes_of(static_cast<uint16_t>(name.size())) + bytes_of<uint16_t>(6) + name +
            std::string("FB\2\0ZZ", 6) + content;
    const std::string extra = !zip64 ? ""
                                     : bytes_of<uint16_t>(1) + bytes_of<uint16_t>(24) +
                                           bytes_of(content.size()) + bytes_of(content.size()) +
                                           bytes_of(local);
    directory += std::string("PK\1\2\0\0", 6) + begin + number(content.size()) +
                 number(content.size()) + bytes_of(static_cast<uint16_t>(name.size())) +
                 bytes_of(static_cast<uint16_t>(extra.size())) + std::string(10, '\0') +
                 number(local) + name + extra;
  }
  const size_t begin = file.size(), end = begin + directory.size();
  file += directory;
  if (zip64)
    file += "PK\6\6" + bytes_of(uint64_t{44}) + std::string(12, '\0') + bytes_of(entries.size()) +
            bytes_of(entries.size()) + bytes_of(directory.size()) + bytes_of(begin) + "PK\6\7" +
            bytes_of(uint32_t{0}) + bytes_of(end) + bytes_of(uint32_t{1});
  const auto count = zip64 ? uint16_t{0xffff} : static_cast<uint16_t>(entries.size());
  return file + "PK\5\6" + bytes_of(uint32_t{0}) + bytes_of(count) + bytes_of(count) +
         number(directory.size()) + number(begin) + bytes_of(uint16_t{0});
}

// Pieces of a pickle.
namespace pickle {

inline std::string text(const std::string& value) {
  return "X" + bytes_of(static_cast<uint32_t>(value.size())) + value;
}
inline std::string integer(int64_t value) { return "\x8a\x08" + bytes_of(value); }
inline std::string tuple(const std::vector<std::string>& items) {
  std::string all = "(";
  for (const std::string& item : items) all += item;
  return all + "t";
}
inline std::string sizes(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string call(const std::string& function, const std::string& arguments) {
  return function + arguments + "R";
}
inline std::string storage(const std::string& key, int64_t elements,
                           const std::string& type = "FloatStorage") {
  return tuple(
             {text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) +
         "Q";
}
inline std::string tensor(const std::string& storage, int64_t offset,
                          const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              tuple({storage, integer(offset), sizes(shape), sizes(strides), "\x89",
                     call(global("collections", "OrderedDict"), ")")}));
}
// Of a type without a class of storages; the storage has so many bytes.
inline std::string untyped_tensor(const std::string& key, int64_t bytes, const std::string& dtype,
                                  int64_t offset, const std::vector<int64_t>& shape,
                                  const std::vector<int64_t>& strides) {
  const std::string storage = tuple({text("storage"), global("torch.storage", "UntypedStorage"),
                                     text(key), text("cpu"), integer(bytes)}) +
                              "Q";
  return call(global("torch._utils", "_rebuild_tensor_v3"),
              tuple({storage, integer(offset), sizes(shape), sizes(strides), "\x89",
                     call(global("collections", "OrderedDict"), ")"), global("torch", dtype)}));
}
inline std::string program(const std::string& body) { return "\x80\x02" + body + "."; }
// {key: value}, both pickled.
inline std::string dictionary(const std::string& items) { return program("}(" + items + "u"); }

}  // namespace pickle

// A file of torch.save() with this pickle and these storages, "0", "1", ...
inline std::string torch_file(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipContent> entries = {{"archive/data.pkl", pickle}, {"archive/byteorder", "little"}};
  for (size_t i = 0; i < storages.size(); ++i)
    entries.push_back({"archive/data/" + std::to_string(i), storages[i]});
  entries.push_back({"archive/version", "3\n"});
  return zip_of(entries);
}

struct TensorForTorch {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// Matrices are stored by columns, as transposed views, everything else by rows.
inline std::string torch_file_of(const std::vector<TensorForTorch>& tensors) {
  std::string items;
  std::vector<std::string> storages;
  for (const auto& [name, shape, values] : tensors) {
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    std::vector<float> stored = values;
    if (shape.size() == 2) {
      strides = {1, shape[0]};
      for (int64_t i = 0; i < shape[0] * shape[1]; ++i)
        stored[static_cast<size_t>(i / shape[1] + i % shape[1] * shape[0])] =
            values[static_cast<size_t>(i)];
    }
    items +=
        pickle::text(name) + pickle::tensor(pickle::storage(std::to_string(storages.size()),
                                                            static_cast<int64_t>(values.size())),
                                            0, shape, strides);
    storages.emplace_back(reinterpret_cast<const char*>(stored.data()),
                          stored.size() * sizeof(float));
  }
  return torch_file(pickle::dictionary(items), storages);
}

}  // namespace facet
