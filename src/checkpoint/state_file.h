// state.h5 of a checkpoint: /param/NAME/{fp32,exp_avg,exp_avg_sq}, each a flat fp32 data set of the
// full parameter with the attributes shape and group, and the run's state as attributes of the
// file. An ordinary HDF5 file, which h5py and h5dump read.
//
// One process creates the file with all its data sets, then every rank writes what it owns: as
// plain bytes at the data sets' offsets (here), or all together through HDF5 (collective_write.h).
#pragma once

#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "zero/engine.h"

namespace facet {

struct StoredParam {
  const Param* param;
  std::string group;
};

// The arrays of these parameters, three each, without offsets and ranges.
std::vector<StoredArray> arrays_of(std::span<const StoredParam> params);

// An upper bound on the size of the file.
int64_t estimated_bytes(const std::vector<StoredArray>& arrays);

// Creates the file with reserved space and fills in the arrays' offsets. On one rank.
void create_state_file(const std::string& path, const RunState& state,
                       std::vector<StoredArray>& arrays);

// A range that was written, and the array it belongs to.
struct WrittenRange {
  int64_t array = 0;
  StoredRange range;
};
// Called at moments of a write: ckpt.write when half is written, ckpt.written when all is written
// and flushed, before it is read back.
using WriteMoments = std::function<void(const char* moment)>;

// Writes this rank's ranges in small pieces, flushes them to disk, reads them back and compares
// them with the hashes of the memory. After a stop request it returns early.
std::vector<WrittenRange> write_ranges(const std::string& path,
                                       const std::vector<StoredArray>& arrays,
                                       std::span<const StateRange> ranges,
                                       const WriteMoments& at_moment, std::stop_token stop = {});

// The parts of write_ranges, for other ways of writing: the ranges that this rank has of each
// array, in the arrays' order; and the comparison with what was written.
struct RangePart {
  int64_t array = 0;
  int64_t begin = 0, count = 0;   // elements
  const float* memory = nullptr;  // (count)
};
std::vector<RangePart> parts_of(const std::vector<StoredArray>& arrays,
                                std::span<const StateRange> ranges);
// Everything must have been flushed before.
void verify_written(const std::string& path, const std::vector<StoredArray>& arrays,
                    std::span<const WrittenRange> written, std::stop_token stop = {});

// Fills in the length of the file and the hash of what is outside the arrays, for the manifest.
void seal_state_file(const std::string& path, Manifest& manifest);

// Compares the bytes with the manifest: of all ranges those of number i with i % parts == part, and
// on part 0 the file's length and the rest. Without HDF5, which may crash on a damaged file.
void verify_state_file(const std::string& path, const Manifest& manifest, int64_t part,
                       int64_t parts);

// Fills the ranges from a verified file.
void read_ranges(const std::string& path, const Manifest& manifest,
                 std::span<const StateRange> ranges);

}  // namespace facet
