// The options of a run as texts, as options.cfg and checkpoints have them, and what differs between
// two of its starts.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace facet {

// By name.
using OptionTexts = std::map<std::string, std::string>;

// From the lines "name = value" of resolved_options(); its comments are left out.
OptionTexts option_texts(const std::string& resolved);

struct OptionChange {
  std::string name, before, now;

  std::string text() const;  // "zero_stage: 2 -> 3"; (none) stands for an empty value
};

// An option that `before` did not have yet counts as its default, which changed nothing.
std::vector<OptionChange> option_changes(const OptionTexts& before, const OptionTexts& now);

}  // namespace facet
