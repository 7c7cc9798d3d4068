// One option of the table, and the subcommands that know it.
#include <array>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "options/option_table.h"

namespace facet {

namespace {

constexpr std::array<std::pair<Command, const char*>, 9> kCommands = {{
    {Command::kTrain, "train"},
    {Command::kEvaluate, "evaluate"},
    {Command::kGenerate, "generate"},
    {Command::kChat, "chat"},
    {Command::kPlan, "plan"},
    {Command::kDataStats, "data-stats"},
    {Command::kBandwidth, "bandwidth"},
    {Command::kCacheFeatures, "cache-features"},
    {Command::kExport, "export"},
}};

// The e is that of evaluate, the c that of chat.
char letter_of(Command command) {
  if (command == Command::kCacheFeatures) return '\0';
  return command == Command::kExport ? 'x' : name_of(command)[0];
}

bool contains(const char* letters, Command command) {
  const std::string_view list = letters;
  if (takes_options_of_training(command) && list.find('t') != list.npos) return true;
  return list.find(letter_of(command)) != list.npos;
}

}  // namespace

bool takes_options_of_training(Command command) {
  return command == Command::kPlan || command == Command::kDataStats ||
         command == Command::kCacheFeatures;
}

const char* title_of(OptionGroup group) {
  static constexpr std::array<const char*, kOptionGroups> kTitles = {
      "Model",  "What is trained", "Data", "Steps", "Optimizer",  "Ranks and precision",
      "Output", "Generation",      "Chat", "Plan",  "Data-stats", "Bandwidth"};
  return kTitles[static_cast<size_t>(group)];
}

OptionField OptionField::required(const char* letters) const {
  OptionField f = *this;
  f.required_by = letters;
  return f;
}
OptionField OptionField::in(double lowest, double highest) const {
  OptionField f = *this;
  f.low = lowest;
  f.high = highest;
  return f;
}
OptionField OptionField::one_of(std::vector<std::string> words) const {
  OptionField f = *this;
  f.choices = std::move(words);
  return f;
}
OptionField OptionField::or_kinds(std::vector<std::string> words) const {
  OptionField f = *this;
  f.kinds = std::move(words);
  return f;
}
OptionField OptionField::ignored() const {
  OptionField f = *this;
  f.state = State::kIgnored;
  return f;
}
OptionField OptionField::merged() const {
  OptionField f = new_file();
  f.state = State::kMerged;
  return f;
}
OptionField OptionField::directory() const {
  OptionField f = new_directory();
  f.must_exist = true;
  return f;
}
OptionField OptionField::file() const {
  OptionField f = new_file();
  f.must_exist = true;
  return f;
}
OptionField OptionField::new_directory() const {
  OptionField f = *this;
  f.path = Path::kDirectory;
  return f;
}
OptionField OptionField::new_file() const {
  OptionField f = *this;
  f.path = Path::kFile;
  return f;
}
OptionField OptionField::usually_given() const { return usually_given(commands); }
OptionField OptionField::usually_given(const char* letters) const {
  OptionField f = *this;
  f.usual_for = letters;
  return f;
}

bool OptionField::known_to(Command command) const { return contains(commands, command); }
bool OptionField::required_by_command(Command command) const {
  return contains(required_by, command);
}
bool OptionField::usual_for_command(Command command) const { return contains(usual_for, command); }
bool OptionField::is_list() const {
  return std::holds_alternative<std::vector<std::string> Options::*>(member) ||
         std::holds_alternative<std::vector<int64_t> Options::*>(member) ||
         std::holds_alternative<std::vector<double> Options::*>(member);
}

std::optional<Command> command_from_name(const std::string& name) {
  for (const auto& [command, word] : kCommands)
    if (name == word) return command;
  return std::nullopt;
}

const char* name_of(Command command) {
  for (const auto& [known, word] : kCommands)
    if (known == command) return word;
  fail(ExitCode::kInternal, "a command without a name");
}

std::vector<Command> all_commands() {
  std::vector<Command> all;
  for (const auto& [command, word] : kCommands) all.push_back(command);
  return all;
}

}  // namespace facet
