// Points in time as people and programs read them.
#pragma once

#include <chrono>
#include <string>

namespace facet {

using WallTime = std::chrono::system_clock::time_point;

// "2026-11-29T11:07:12.123Z": UTC, in milliseconds (ISO 8601). Files have this.
std::string utc_text(WallTime time);

// "2026-11-29 11:07:12" in the local time zone ($TZ or the system's). Lines on the console have
// this.
std::string local_text(WallTime time);

}  // namespace facet
