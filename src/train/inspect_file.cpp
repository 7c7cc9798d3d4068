#include "train/inspect_file.h"

#include <fmt/format.h>

#include "base/log.h"
#include "io/content_kind.h"
#include "io/file.h"
#include "io/tensor_directory.h"
#include "train/file_for_directory.h"

namespace facet {

namespace {

void print_tensors(const std::string& path, ContentKind kind) {
  const TensorDirectory file = TensorDirectory::of_file(path);
  const std::vector<std::string> names = file.names();
  int64_t elements = 0;
  for (const std::string& name : names) elements += file.find(name)->numel();
  log("{}: {}, {} tensors, {} elements", path, name_of(kind), names.size(), elements);
  for (const auto& [key, value] : file.metadata()) log("  {} {}", key, value);
  for (const std::string& name : names) {
    const StoredTensor& tensor = *file.find(name);
    log("{}  {}  {}", name, tensor.shape_string(), tensor.type);
  }
}

}  // namespace

int inspect_file(const std::string& path) {
  const ContentKind kind = content_kind(beginning_of(InputFile(path)));
  const bool has_tensors = kind == ContentKind::kSafetensors || kind == ContentKind::kTorchZip ||
                           kind == ContentKind::kPickle;
  if (!has_tensors) refuse_file(path);
  print_tensors(path, kind);
  if (lies_in_model(path))
    log("facet inspect {} says more: of the directory that it lies in", directory_of(path));
  return 0;
}

}  // namespace facet
