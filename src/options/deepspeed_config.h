// --deepspeed_config: a DeepSpeed configuration file as values of our options.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "options/batch_sizes.h"
#include "options/options.h"

namespace facet {

// The content of one file. Keys are named by their path, "zero_optimization.stage".
struct DeepSpeedConfig {
  std::string file;
  struct Setting {
    std::string key;
    std::string value;   // as --option would take it
    std::string option;  // which it sets
  };
  // A key that is fixed here to another value than the file's. It matters only where `option` has
  // the value `when`: a run without fp16 has no loss scale.
  struct Unbuilt {
    std::string choice;  // "fp16.hysteresis 3 (here it is 2)"
    std::string option, when;
  };

  BatchSizes batch;
  std::vector<Setting> settings;
  std::vector<Unbuilt> unbuilt;
  bool hybrid_engine = false;            // is to take over when the model is to answer
  std::vector<std::string> meaningless;  // keys without an effect in this program
  std::vector<std::string> notes;        // lines to be printed
  std::vector<std::string> mistakes;
};

// Collects all mistakes of the file; a file that is not JSON has one.
DeepSpeedConfig read_deepspeed_config(const std::string& path);

// The outcome of merging a file into the options.
struct DeepSpeedMerge {
  std::vector<std::string> mistakes;
  std::vector<std::string> unbuilt;  // keys that ask for what this version does not have
  std::vector<std::string> notes;
};

// The file's values go into the options, except where the command line (whose values the options
// hold already) names the option too.
DeepSpeedMerge merge_deepspeed_config(const DeepSpeedConfig& config,
                                      const std::set<std::string>& on_command_line, int64_t ranks,
                                      Options& options);

}  // namespace facet
