#include "options/options.h"

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "base/edit_distance.h"
#include "base/printable.h"
#include "io/file.h"
#include "options/deepspeed_config.h"
#include "options/hub_cache.h"
#include "options/option_table.h"
#include "options/whole_model.h"

namespace facet {

namespace {

namespace po = boost::program_options;

// What is wrong, collected over the whole command line: the first mistakes, and how many there are.
class MistakeList {
 public:
  static constexpr size_t kShown = 20;

  bool full() const { return lines_.size() == kShown; }
  size_t count() const { return count_; }
  // A line that nobody will read is not made.
  void add(const std::function<std::string()>& line) {
    ++count_;
    if (!full()) lines_.push_back(shortened(line()));
  }
  void add(std::string line) {
    add([&] { return std::move(line); });
  }
  void add_all(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) add(line);
  }
  std::string text() const {
    std::string text;
    for (const std::string& line : lines_) text += "\n  " + line;
    if (count_ > lines_.size()) text += fmt::format("\n  and {} more", count_ - lines_.size());
    return text;
  }

 private:
  static std::string shortened(std::string line) {
    constexpr size_t kMost = 1000;
    if (line.size() <= kMost) return line;
    size_t end = kMost;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;  // of UTF-8
    return line.substr(0, end) + " ...";
  }

  std::vector<std::string> lines_;
  size_t count_ = 0;
};

struct Mistakes {
  MistakeList wrong;      // can't be read, or can be read but not done
  size_t unreadable = 0;  // of these, those that can't be read
  MistakeList not_built;

  template <typename Line>
  void usage(Line&& line) {
    ++unreadable;
    wrong.add(std::forward<Line>(line));
  }
};

// Option name -> the words after it.
using Assignments = std::map<std::string, std::vector<std::string>>;

std::string nearest_name(Command command, const std::string& name) {
  std::string nearest = "config";
  size_t least = edit_distance(name, nearest);
  if (edit_distance(name, "help") < least) least = edit_distance(name, nearest = "help");
  for (const OptionField& field : option_table()) {
    const size_t distance = field.known_to(command) ? edit_distance(name, field.name) : least;
    if (distance >= least) continue;
    least = distance;
    nearest = field.name;
  }
  return nearest;
}

// "where" is "" on the command line and "FILE:12: " in a file.
void report_unknown(Command command, const std::string& where, const std::string& name,
                    Mistakes& mistakes) {
  const OptionField* field = find_option(name);
  if (field == nullptr) {
    mistakes.usage([&] {
      return fmt::format("{}unknown option --{:.100}; did you mean --{}?", where, name,
                         nearest_name(command, name));
    });
    return;
  }
  std::string commands;
  for (const Command other : all_commands())
    if (field->known_to(other))
      commands += fmt::format("{}facet {}", commands.empty() ? "" : ", ", name_of(other));
  mistakes.usage(fmt::format("{}--{} is not an option of facet {}, but of {}", where, name,
                             name_of(command), commands));
}

void append(const std::vector<std::string>& lines, std::vector<std::string>& target) {
  target.insert(target.end(), lines.begin(), lines.end());
}

// Boost only splits the line into names and words. What the words mean is left to the table, so
// that one bad word does not hide the next.
Assignments read_command_line(Command command, const std::vector<std::string>& words,
                              Mistakes& mistakes) {
  constexpr size_t kMostWords = 10'000;  // the time of splitting grows with their square
  if (words.size() > kMostWords) {
    mistakes.usage(
        fmt::format("{} words are too many; at most {} are read, put the others into "
                    "--config",
                    words.size(), kMostWords));
    return {};
  }
  po::options_description known;
  const auto any_words = [] {
    return po::value<std::vector<std::string>>()->multitoken()->zero_tokens();
  };
  known.add_options()("config", any_words());
  for (const OptionField& field : option_table())
    if (field.known_to(command)) known.add_options()(field.name, any_words());

  namespace style = po::command_line_style;
  po::parsed_options parsed(&known);
  try {
    parsed = po::command_line_parser(words)
                 .options(known)
                 .style(style::allow_long | style::long_allow_next | style::long_allow_adjacent)
                 .allow_unregistered()
                 .run();
  } catch (const po::error& error) {  // e.g. "--seed="
    mistakes.usage(error.what());
  }
  Assignments found;
  bool after_unknown = false;  // its words belong to it
  for (const po::option& option : parsed.options) {
    if (option.position_key >= 0) {
      for (const std::string& word : option.value)
        if (!after_unknown) mistakes.usage(fmt::format("stray word '{}'", word));
      continue;
    }
    after_unknown = option.unregistered;
    if (option.unregistered) {
      report_unknown(command, "", option.string_key, mistakes);
    } else if (option.string_key == "config") {
      append(option.value, found["config"]);
    } else if (const auto [at, is_new] = found.emplace(option.string_key, option.value); !is_new) {
      mistakes.usage(fmt::format("--{} is given twice: '{}' and '{}'", option.string_key,
                                 fmt::join(at->second, " "), fmt::join(option.value, " ")));
    }
  }
  return found;
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// A list is split at blanks; any other value is the rest of the line, so that a path may contain
// blanks.
std::vector<std::string> words_of_line(const OptionField& field, const std::string& value) {
  if (!field.is_list()) return value.empty() ? std::vector<std::string>{} : std::vector{value};
  std::istringstream stream(value);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;

std::string text_of_config_file(const std::string& path, Mistakes& mistakes) {
  try {
    const std::string text = read_file(path, kMaxConfigBytes);
    CHECK(!text.empty(), ExitCode::kUsage, "{}: is empty", path);
    return text;
  } catch (const Error& error) {  // the mistakes on the command line are still reported
    mistakes.usage(fmt::format("--config {}", error.what()));
    return "";
  }
}

// Lines "name = value"; # begins a comment line; an empty value keeps the default.
Assignments read_config_text(Command command, const std::string& content, const std::string& path,
                             Mistakes& mistakes) {
  Assignments found;
  std::istringstream file(content);
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    const std::string where = fmt::format("{}:{}: ", path, ++number);
    const std::string line = trimmed(text);
    if (line.empty() || line[0] == '#') continue;
    const size_t equals = line.find('=');
    if (equals == std::string::npos) {
      mistakes.usage(fmt::format("{}'{}' is not name = value", where, line));
      continue;
    }
    const std::string name = trimmed(line.substr(0, equals));
    const std::string value = trimmed(line.substr(equals + 1));
    const OptionField* field = find_option(name);
    if (field == nullptr || !field->known_to(command)) {
      report_unknown(command, where, name, mistakes);
    } else if (!value.empty() && !found.emplace(name, words_of_line(*field, value)).second) {
      mistakes.usage(fmt::format("{}{} is given twice", where, name));
    }
  }
  return found;
}

void apply(const Assignments& assignments, const std::string& where, Options& options,
           Mistakes& mistakes) {
  for (const auto& [name, words] : assignments) {
    const std::string wrong = set_option(*find_option(name), words, options);
    if (!wrong.empty()) mistakes.usage(fmt::format("{}--{}: {}", where, name, wrong));
  }
}

// A language model that is not there may be one that brings the vision encoder; check_paths() says
// that it is not there. --checkpoint_names may bring both.
bool may_come_with_another(const OptionField& field, const Options& options) {
  std::error_code ignored;
  if (field.group == OptionGroup::kModel && !options.checkpoint_names.empty()) return true;
  return std::string(field.name) == "vision_model_name_or_path" &&
         !options.lm_model_name_or_path.empty() &&
         !std::filesystem::is_directory(options.lm_model_name_or_path, ignored);
}

void check_required(Command command, const Options& options, Mistakes& mistakes) {
  for (const OptionField& field : option_table())
    if (field.required_by_command(command) && option_words(field, options)[0].empty() &&
        !may_come_with_another(field, options))
      mistakes.usage(fmt::format("--{} is missing: {}", field.name, field.help));
}

std::set<std::string> names_of(const Assignments& assignments) {
  std::set<std::string> names;
  for (const auto& [name, words] : assignments) names.insert(name);
  return names;
}

void report(Command command, const Mistakes& mistakes) {
  std::string text;
  const size_t count = mistakes.wrong.count();
  if (count > 0)
    text += fmt::format("{} on the command line (facet {} --help lists the options):{}",
                        count == 1 ? "1 mistake" : fmt::format("{} mistakes", count),
                        name_of(command), mistakes.wrong.text());
  if (mistakes.not_built.count() > 0)
    text += fmt::format("{}not supported yet in this version, leave out:{}",
                        text.empty() ? "" : "\n  ", mistakes.not_built.text());
  if (text.empty()) return;
  throw Error(mistakes.unreadable == 0 ? ExitCode::kConfig : ExitCode::kUsage, text);
}

bool plans_other_ranks(Command command) {
  return command == Command::kPlan || command == Command::kDataStats;
}

// A name of the hub becomes the directory of its snapshot. One that is not found stays, and
// check_paths() says why.
void take_from_hub_cache(std::string& model, std::vector<std::string>& notes) {
  std::error_code ignored;
  if (model.empty() || std::filesystem::exists(model, ignored)) return;
  const std::optional<HubLookup> found = look_up_in_hub_cache(model);
  if (!found || found->directory.empty()) return;
  notes.push_back(fmt::format("{}: {}", model, printable(found->directory)));
  model = found->directory;
}

// Takes --config from the line. Returns the names of what its files give.
std::set<std::string> apply_config_files(Command command, Assignments& line, Options& options,
                                         Mistakes& mistakes) {
  std::set<std::string> given;
  const auto config = line.extract("config");
  if (config.empty()) return given;
  if (config.mapped().empty()) mistakes.usage("--config takes a file");
  for (const std::string& path : config.mapped()) {  // a later one beats those before it
    const Assignments file =
        read_config_text(command, text_of_config_file(path, mistakes), path, mistakes);
    apply(file, path + ": ", options, mistakes);
    given.merge(names_of(file));
  }
  return given;
}

}  // namespace

ParsedOptions parse_options(Command command, const std::vector<std::string>& words, int64_t ranks) {
  Mistakes mistakes;
  ParsedOptions parsed;
  Options& options = parsed.options;
  if (command == Command::kDataStats) options.ranks = ranks;
  Assignments line = read_command_line(command, words, mistakes);
  std::set<std::string> given = names_of(line);
  given.merge(apply_config_files(command, line, options, mistakes));
  apply(line, "", options, mistakes);
  DeepSpeedMerge merge;
  if (!options.deepspeed_config.empty())
    merge = merge_deepspeed_config(read_deepspeed_config(options.deepspeed_config), names_of(line),
                                   plans_other_ranks(command) ? options.ranks : ranks, options);
  std::vector<std::string> of_models;
  for (std::string* model :
       {&options.lm_model_name_or_path, &options.vision_model_name_or_path, &options.adapter})
    take_from_hub_cache(*model, of_models);
  if (command != Command::kExport)  // which goes by the run's options
    mistakes.wrong.add_all(take_from_whole_model(given, options, of_models));
  check_required(command, options, mistakes);
  mistakes.wrong.add_all(merge.mistakes);
  mistakes.wrong.add_all(contradictions(command, options, ranks));
  parsed.notes = merge.notes;
  for (std::string& note : choices_without_effect(command, options))
    parsed.notes.push_back(std::move(note));
  if (command == Command::kPlan) {
    for (const std::string& choice : merge.unbuilt)
      parsed.notes.push_back(fmt::format("not supported yet by facet train: {}", choice));
  } else {
    mistakes.not_built.add_all(merge.unbuilt);
  }
  report(command, mistakes);
  for (std::string& note : of_models) parsed.notes.push_back(std::move(note));
  parsed.given = std::move(given);
  return parsed;
}

Options options_of_run(const std::string& resolved, const std::string& where) {
  Mistakes mistakes;
  Options options;
  apply(read_config_text(Command::kTrain, resolved, where, mistakes), where + ": ", options,
        mistakes);
  report(Command::kTrain, mistakes);
  return options;
}

std::string resolved_options(Command command, const Options& options) {
  std::string text;
  for (const OptionField& field : option_table()) {
    if (!field.known_to(command)) continue;
    std::string value;
    for (const std::string& word : option_words(field, options)) value += " " + word;
    if (field.state == OptionField::State::kMerged) {
      if (value != " ")
        text += fmt::format("# {} ={}: its keys are merged in\n", field.name, value);
    } else {
      text += fmt::format("{} ={}\n", field.name, value);
    }
  }
  return text;
}

}  // namespace facet
