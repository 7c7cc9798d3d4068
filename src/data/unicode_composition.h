// Unicode's normalization form C (UAX #15).
#pragma once

#include <string>
#include <string_view>

namespace facet {

// The text, which is UTF-8, with letters and the marks behind them as one character where Unicode
// has one. Takes O(n log n), however many marks follow each other.
std::string composed(std::string_view text);

}  // namespace facet
