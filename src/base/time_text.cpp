#include "base/time_text.h"

#include <fmt/core.h>

#include <array>
#include <ctime>

namespace facet {

namespace {

std::string text_of(const std::tm& parts, const char* format) {
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

}  // namespace

std::string utc_text(WallTime time) {
  using std::chrono::milliseconds;
  const auto since_epoch = std::chrono::floor<milliseconds>(time.time_since_epoch());
  const auto whole = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const auto seconds = static_cast<std::time_t>(whole.count());
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{}.{:03}Z", text_of(parts, "%Y-%m-%dT%H:%M:%S"),
                     (since_epoch - whole) / milliseconds(1));
}

std::string local_text(WallTime time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  return text_of(parts, "%Y-%m-%d %H:%M:%S");
}

}  // namespace facet
