// run.json as an earlier start left it: read, continued and ended. What is no record is kept.
#include <filesystem>

#include "base/check.h"
#include "common/target.h"
#include "io/file.h"
#include "train/run_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string_view text = fuzz::text_of(data, size);
  return fuzz::may_refuse([&] {
    const std::string path = fuzz::put("run.json", text), kept = path + ".previous";
    std::filesystem::remove(kept);
    RunRecord record(fuzz::scratch(), RunRecord::Earlier::kGoesOn);
    record.begin([](JsonWriter& writer) {
      writer.key("options").begin_object();
      writer.end_object();
    });
    record.end({ExitCode::kSaved, 3, "none"});
    const bool is_kept = std::filesystem::exists(kept);
    fuzz::require(!is_kept || read_file(kept, int64_t{1} << 30) == text, "the file was not kept");
    const JsonDocument written = JsonDocument::read(path);
    const JsonValue starts = written.root().at("starts");
    const JsonValue last = starts.at(starts.size() - 1);
    fuzz::require(last.at("start").as_int() == record.start(), "the start was not added");
    fuzz::require(last.at("end").at("code").as_int() == 85, "its end was not added");
    if (is_kept) fail(ExitCode::kBadData, "no record");
  });
}
