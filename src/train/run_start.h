// What a run was started as, for run.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "job/slurm_job.h"
#include "train/binding.h"
#include "train/option_texts.h"
#include "train/version.h"

namespace facet {

struct RunStart {
  SlurmJob slurm;
  ProgramVersion program;
  std::vector<RankBinding> binding;  // of all ranks
  struct From {
    int64_t step = 0;
    std::string checkpoint;  // in the output directory
  };
  std::optional<From> resumed_from;
  OptionTexts options, options_before;  // of the last start; empty where none is known
  OptionTexts environment;              // as recorded_environment() gives it
};

// The members of its object that follow "start".
void write_members(JsonWriter& writer, const RunStart& start);

// Of entries "NAME=value" those that a run may depend on, by a list of names; none whose name says
// that it is a secret. Of long values the beginning.
OptionTexts recorded_environment(const char* const* entries);

}  // namespace facet
