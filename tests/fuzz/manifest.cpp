// manifest.json of a checkpoint: as it is, and with the hash that lets damaged text pass as sound.
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/state_file.h"
#include "common/target.h"
#include "io/hash.h"

namespace facet {
namespace {

// The text with the seal of Manifest::text() instead of its last "\n}\n".
std::string sealed(std::string text) {
  constexpr std::string_view kEnd = "\n}\n";
  if (text.ends_with(kEnd)) text.resize(text.size() - kEnd.size());
  const std::string hash = hash_of(text.data(), static_cast<int64_t>(text.size()));
  return text + ",\n  \"xxh3_128\": \"" + hash + "\"\n}\n";
}

void use(const Manifest& manifest) {
  for (const StoredArray& array : manifest.arrays) {
    fuzz::require(array.elements() >= 0 && array.bytes() >= 0, "an array of negative size");
    fuzz::require(manifest.find(array.name) != nullptr, "an array is not found by its name");
  }
  fuzz::may_refuse([&] { verify_state_file(fuzz::put("state.h5", "no state"), manifest, 0, 1); });
  fuzz::require(Manifest::parse(manifest.text(), "written").text() == manifest.text(),
                "written and read back, the manifest has changed");
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string text(fuzz::text_of(data, size));
  fuzz::may_refuse([&] { use(Manifest::parse(text, "manifest.json")); });
  return fuzz::may_refuse([&] { use(Manifest::parse(sealed(text), "manifest.json")); });
}
