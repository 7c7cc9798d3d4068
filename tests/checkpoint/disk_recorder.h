// What the test program asks of the disk: writes, flushes, orders to forget what is cached, renames
// are intercepted and recorded here, in order.
#pragma once

#include <string>
#include <vector>

namespace facet {

struct DiskCall {
  enum class Kind : uint8_t { kWrite, kFlush, kForget, kRename } kind;
  std::string path;  // of a rename, where it leads
};

// Notes from here on; what was noted before is forgotten.
void record_disk_calls();
// Ends the noting.
std::vector<DiskCall> recorded_disk_calls();

// From here on reads at offsets of files whose path ends like this fail with EIO; "": none does.
void fail_reads_of(const std::string& end);

}  // namespace facet
