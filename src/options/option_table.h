// The table of fields behind options/options.h: one entry per option.
#pragma once

#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "options/options.h"

namespace facet {

enum class OptionGroup : uint8_t {
  kModel,
  kTrained,
  kData,
  kSteps,
  kOptimizer,
  kRanks,
  kOutput,
  kGenerate,
  kChat,
  kPlan,
  kDataStats,
  kBandwidth
};
constexpr int kOptionGroups = 12;
const char* title_of(OptionGroup group);

// Whether a run that is resumed may give another value than the one it began with.
enum class OnResume : uint8_t {
  kMustMatch,      // it changes what is computed
  kMayChange,      // it doesn't, or is compared in another way (train/resume.h)
  kNotOfTraining,  // facet train does not know it
};

using OptionMember = std::variant<bool Options::*, int64_t Options::*, double Options::*,
                                  std::string Options::*, std::vector<std::string> Options::*,
                                  std::vector<int64_t> Options::*, std::vector<double> Options::*>;

// What takes the command line of a run, to say or do something before it.
bool takes_options_of_training(Command command);

struct OptionField {
  const char* name;
  OptionMember member;  // its type is the option's type; its value in Options{} the default
  OptionGroup group;
  const char* commands;  // first letters of the subcommands that know it, x of export; t stands for
                         // plan, data-stats and cache-features, which has no letter, too
  OnResume on_resume;
  const char* help;

  const char* required_by = "";  // letters
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};  // empty: any value
  std::vector<std::string> kinds = {};    // KIND: with anything behind the colon is allowed too
  enum class State : uint8_t { kBuilt, kIgnored, kMerged } state = State::kBuilt;
  enum class Path : uint8_t { kNone, kDirectory, kFile } path = Path::kNone;
  bool must_exist = false;     // what the path names
  const char* usual_for = "";  // letters of the subcommands whose calls mostly give it: their
                               // --help has it at the top

  OptionField required(const char* letters) const;
  OptionField in(double lowest, double highest) const;  // both ends included, of each value
  OptionField one_of(std::vector<std::string> words) const;
  OptionField or_kinds(std::vector<std::string> words) const;
  OptionField ignored() const;  // accepted for old launch scripts
  OptionField merged()
      const;  // a file whose content sets other options; whoever reads it checks it
  OptionField directory() const;  // must be there
  OptionField file() const;
  OptionField new_directory() const;  // need not
  OptionField new_file() const;
  OptionField usually_given() const;  // to all subcommands that know it
  OptionField usually_given(const char* letters) const;

  bool known_to(Command command) const;
  bool required_by_command(Command command) const;
  bool usual_for_command(Command command) const;
  bool is_flag() const { return std::holds_alternative<bool Options::*>(member); }
  bool is_list() const;
  // Those that --help names: all but the ones that do nothing.
  bool is_shown_to(Command command) const { return known_to(command) && state != State::kIgnored; }
};

const std::vector<OptionField>& option_table();
const OptionField* find_option(const std::string& name);  // nullptr: there is none

// The words that would give this value.
std::vector<std::string> option_words(const OptionField& field, const Options& options);

// Sets the value from words. Returns what is wrong with them, or nothing.
std::string set_option(const OptionField& field, const std::vector<std::string>& words,
                       Options& options);

// Choices that change nothing in this program or this build, one line each.
std::vector<std::string> choices_without_effect(Command command, const Options& options);

// Choices that contradict each other, or the number of ranks that the program runs on.
std::vector<std::string> contradictions(Command command, const Options& options, int64_t ranks);

}  // namespace facet
