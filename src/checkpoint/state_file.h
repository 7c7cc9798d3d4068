// state.h5 of a checkpoint: /param/NAME/{fp32,exp_avg,exp_avg_sq}, each a whole, flat fp32 data set
// with the attributes shape and group, and the run's state as attributes of the file. An ordinary
// HDF5 file, which h5py and h5dump read.
//
// One process makes the file with all its data sets, then every rank writes what it owns: as plain
// bytes at the data sets' places (here), or through HDF5 together (collective_write.h).
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

// The arrays of these parameters, three each, still without place and ranges.
std::vector<StoredArray> arrays_of(std::span<const StoredParam> params);

// What the file will need, rather too much than too little.
int64_t estimated_bytes(const std::vector<StoredArray>& arrays);

// Makes the file with reserved space and fills in the arrays' places. On one rank.
void create_state_file(const std::string& path, const RunState& state,
                       std::vector<StoredArray>& arrays);

// A range that was written, and the array it belongs to.
struct WrittenRange {
  int64_t array = 0;
  StoredRange range;
};
// Told the moments of a write: ckpt.write when half is written, ckpt.written when all is and lies
// on the disk, before it is read back.
using WriteMoments = std::function<void(const char* moment)>;

// Writes this rank's ranges in small pieces, flushes them to the disk, reads them back and compares
// them with the hashes taken from memory. After a stop request it returns early with less.
std::vector<WrittenRange> write_ranges(const std::string& path,
                                       const std::vector<StoredArray>& arrays,
                                       std::span<const StateRange> ranges,
                                       const WriteMoments& at_moment, std::stop_token stop = {});

// What write_ranges is made of, for whoever brings the bytes into the file otherwise: the runs that
// this rank has of each array, in the arrays' order; and the comparison with what was written.
struct RangePart {
  int64_t array = 0;
  int64_t begin = 0, count = 0;   // elements
  const float* memory = nullptr;  // (count)
};
std::vector<RangePart> parts_of(const std::vector<StoredArray>& arrays,
                                std::span<const StateRange> ranges);
// All of it has to be on the disk before.
void verify_written(const std::string& path, const std::vector<StoredArray>& arrays,
                    std::span<const WrittenRange> written, std::stop_token stop = {});

// Length of the file and hash of what lies outside the arrays, for the manifest.
void seal_state_file(const std::string& path, Manifest& manifest);

// Compares the bytes with the manifest: of all ranges those of number i with i % parts == part, and
// on part 0 the file's length and the rest. HDF5 is not asked: it may crash on a damaged file.
void verify_state_file(const std::string& path, const Manifest& manifest, int64_t part,
                       int64_t parts);

// Fills the ranges from a verified file.
void read_ranges(const std::string& path, const Manifest& manifest,
                 std::span<const StateRange> ranges);

}  // namespace facet
