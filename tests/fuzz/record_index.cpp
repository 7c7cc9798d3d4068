// The index of a record store (io/record_store.h), beside a file of records.
#include <fmt/format.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "common/target.h"
#include "io/record_store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  constexpr size_t kBytes = 100;  // of a record
  fuzz::put("records-here-1.index", fuzz::text_of(data, size));
  fuzz::put("records-here-1.data", std::string(3 * kBytes, 'x'));
  return fuzz::may_refuse([&] {
    RecordStore store(fuzz::scratch(), "other");
    fuzz::require(store.records() * 64 <= static_cast<int64_t>(size), "more records than entries");
    for (size_t at = 64; at + 16 <= size; at += 64) {
      RecordKey key{};
      std::memcpy(key.data(), data + at, sizeof key);
      std::vector<std::byte> bytes(kBytes);
      if (store.find(key, bytes))
        fuzz::require(bytes == std::vector<std::byte>(kBytes, std::byte{'x'}), "another record");
    }
    const std::vector<std::string> words = store.take_words();
    CHECK(words.empty(), ExitCode::kBadData, "{}", words[0]);
  });
}
