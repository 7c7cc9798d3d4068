// manifest.json of a checkpoint: the run's state, where each array is in state.h5, and hashes
// (XXH3-128) that cover every byte of that file. Its own last member is the hash of the text before
// it, so that damage is found before any number is used.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"

namespace facet {

// A range of elements as one rank wrote it; the hash is of the bytes in its memory.
struct StoredRange {
  int64_t begin = 0;
  int64_t count = 0;
  std::string hash;
};

// One fp32 array of state.h5: the flat form of a parameter, or one of its moments.
struct StoredArray {
  std::string name;   // "param/lang_embed.weight/exp_avg"
  std::string group;  // its optimizer group
  std::vector<int64_t> shape;
  int64_t offset = 0;  // bytes from the beginning of the file
  std::vector<StoredRange> ranges;

  int64_t elements() const;
  int64_t bytes() const { return elements() * int64_t{sizeof(float)}; }
};

struct Manifest {
  RunState state;
  int64_t file_bytes = 0;
  std::string rest_hash;  // of the bytes of state.h5 outside the arrays, in file order
  std::vector<StoredArray> arrays;

  std::string text() const;
  // Throws Error(kBadData) unless the text is exactly what text() wrote, its counts are not below
  // 0, and its arrays lie in the file without overlap. `path` is for messages.
  static Manifest parse(const std::string& text, const std::string& path);

  const StoredArray* find(const std::string& name) const;
};

}  // namespace facet
