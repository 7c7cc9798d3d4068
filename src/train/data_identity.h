// What a run's data are, and which of their files have changed when it continues.
//
// The fingerprint: a hash that decides, then for each data set NAME=HASH[,FILE...]. FILE is 8
// digits of the file's hash and, where that is of an index only (SourceFile::Hashed), '-' and 8
// digits of a hash of its size and time. Older checkpoints lack the FILEs, still older ones all
// words but the first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "options/options.h"
#include "train/data_setup.h"

namespace facet {

struct DataIdentity {
  std::string fingerprint;
  std::vector<std::string> files;  // paths, in the order of the FILEs
};

DataIdentity identify_data(const Options& options, const DataSetup& data);

// Data sets that a fingerprint names.
size_t datasets_named_in(const std::string& fingerprint);

// What differs, so that the run cannot continue: lines that begin with "\n  " and name files; empty
// if nothing does.
std::string data_differences(const RunState& stored, const RunState& now);

// The files whose size or time has changed while their index has not: whether all else in them is
// as it was is not known.
std::vector<std::string> touched_files(const RunState& stored, const RunState& now);

}  // namespace facet
