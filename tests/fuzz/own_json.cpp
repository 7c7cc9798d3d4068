// A user's own records, in JSON lines and in an array: each is read as a sample. Where a JSON
// reader of the whole text finds an array, there are as many records as it has elements.
#include "base/rng.h"
#include "common/target.h"
#include "data/dataset.h"
#include "io/json.h"

namespace facet {
namespace {

int64_t read_all(const std::string& path) {
  const auto dataset = open_dataset(choose_datasets({"json:" + path})[0], DatasetSources{});
  for (int64_t record = 0; record < dataset->num_records(); ++record)
    fuzz::may_refuse([&] {
      RandomStream draws(1, "own", static_cast<uint64_t>(record));
      fuzz::require(!dataset->read(record, draws).rounds.empty(), "a sample without a round");
    });
  return dataset->num_records();
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::may_refuse([&] { read_all(fuzz::put("own.jsonl", text)); });
  return fuzz::may_refuse([&] {
    const std::string path = fuzz::put("own.json", text);
    const JsonDocument whole = JsonDocument::parse_any_bytes(text, "own.json");
    if (!whole.root().is_array() || text.find('[') > 100) return;
    const int64_t records = whole.root().size() == 0 ? 0 : read_all(path);
    fuzz::require(records == whole.root().size(), "another number of records");
  });
}
