// The names that are the program's own in a directory, and what killed processes leave under them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Whether a file or directory, which is no link, has one of the names `own`, as tidy_directory()
// takes them (io/file.h).
bool is_own(const std::filesystem::directory_entry& entry, std::span<const std::string_view> own);

struct LeftOver {
  std::filesystem::path path, name;  // OUT/epoch-3.replaced-4711, OUT/epoch-3
  int64_t process = 0;               // 4711, which made it
  bool was_replaced = false;
};
// What lies there under NAME.partial-PID, NAME.replaced-PID and NAME.removed-PID for the names
// `own`; a living process may be writing it. Empty if there is no such directory.
std::vector<LeftOver> left_overs(const std::string& directory,
                                 std::span<const std::string_view> own);

}  // namespace facet
