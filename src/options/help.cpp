#include "options/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <sstream>

#include "base/edit_distance.h"
#include "base/printable.h"
#include "options/option_table.h"

namespace facet {

namespace {

constexpr size_t kWidth = 80;

// Lines of at most kWidth columns, each indented.
std::string wrapped(const std::string& text, size_t indent) {
  std::istringstream words(text);
  std::string lines, line;
  for (std::string word; words >> word;) {
    if (!line.empty() && indent + line.size() + 1 + word.size() > kWidth) {
      lines += std::string(indent, ' ') + line + '\n';
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return lines + std::string(indent, ' ') + line + '\n';
}

std::string entry(const OptionField& field) {
  const std::string notes = notes_of(field), place = placeholder_of(field);
  return fmt::format("  --{}{}{}\n{}", field.name, place.empty() ? "" : " ", place,
                     wrapped(field.help + (notes.empty() ? "" : " [" + notes + "]"), 6));
}

// The entries of the options that are chosen, below their title; nothing if there are none.
std::string section(Command command, const std::string& title,
                    const std::function<bool(const OptionField&)>& chosen) {
  std::string entries;
  for (const OptionField& field : option_table())
    if (field.is_shown_to(command) && chosen(field)) entries += entry(field);
  return entries.empty() ? "" : fmt::format("\n{}\n{}", title, entries);
}

std::string commands_with(const OptionField& field) {
  std::string names;
  for (const Command command : all_commands())
    if (field.known_to(command))
      names += (names.empty() ? "" : ", ") + std::string(name_of(command));
  return names;
}

// A command, or one of the words that stand for none; dashes before it do not count.
std::string nearest_first_word(const std::string& word) {
  const auto bare = [](const std::string& name) {
    return name.substr(std::min(name.find_first_not_of('-'), name.size()));
  };
  std::vector<std::string> known = {"--help", "--version", "--man", "--completion"};
  for (const CommandSummary& command : command_summaries()) known.emplace_back(command.name);
  std::string nearest;
  size_t least = std::min(bare(word).size(), size_t{4});  // else every letter is another one
  for (const std::string& name : known) {
    const bool begun = bare(word).size() > 1 && bare(name).starts_with(bare(word));
    const size_t distance = begun ? 0 : edit_distance(bare(word), bare(name));
    if (distance >= least) continue;
    least = distance;
    nearest = name;
  }
  return nearest;
}

// A run without an output directory would leave nothing; a dry run and a plan may be without.
bool is_needed(Command command, const OptionField& field) {
  return field.required_by_command(command) ||
         (command == Command::kTrain && &field == find_option("output_dir"));
}

// What a model is made of, for commands that take one by a name as well.
bool says_the_model(Command command, const OptionField& field) {
  const std::string_view name = field.name;
  return find_option("checkpoint_names")->known_to(command) &&
         (name == "lm_model_name_or_path" || name == "vision_model_name_or_path" ||
          name == "checkpoint_names" || name == "checkpoint_path");
}

}  // namespace

const std::vector<CommandSummary>& command_summaries() {
  static const std::vector<CommandSummary> kSummaries = {
      {"train", "train on images and conversations; --dry_run checks and plans"},
      {"evaluate", "loss of a model over the evaluation split"},
      {"generate", "answers to the questions of a file"},
      {"chat", "a conversation with a model on a terminal, about images"},
      {"plan", "what a training run would take: memory, traffic, operations"},
      {"data-stats", "lengths of the samples, and what training would cut or omit"},
      {"bandwidth", "how fast all-reduces between ranks are, and which host is slow"},
      {"cache-features", "fill the --feature_cache of a run before it starts"},
      {"export", "a model or an adapter from a checkpoint of a run"},
      {"inspect", "what a model or a checkpoint holds; how two of them differ"}};
  return kSummaries;
}

std::vector<std::string> first_steps(const std::string& facet, const std::string& make_tiny) {
  return {make_tiny + " --output tiny --scenes 200",
          facet + " train --config tiny/train.cfg --output_dir out --dry_run",
          "mpirun -n 2 " + facet + " train --config tiny/train.cfg --output_dir out",
          facet + " generate --lm_model_name_or_path out/epoch-1/lang_decoder \\",
          "    --vision_model_name_or_path out/epoch-1/vis_encoder \\",
          "    --input tiny/data/eval/held_out.json --output answers.csv"};
}

std::string usage_text(const std::string& facet, const std::string& make_tiny) {
  std::string text = fmt::format(
      "facet trains vision-language chat models: a vision encoder, a projection and a\n"
      "language model, on one MPI rank or many.\n\n"
      "usage: [mpirun -n N] {} COMMAND --name value ...\n\n",
      facet);
  for (const CommandSummary& command : command_summaries())
    text += fmt::format("  {:<14} {}\n", command.name, command.text);
  text += "\nFirst steps, with a tiny example; models and data of your own go the same way:\n\n";
  for (const std::string& line : first_steps(facet, make_tiny)) text += "  " + line + '\n';
  return text +
         fmt::format(
             "\n  {0} COMMAND --help   the options of a command, the needed ones first\n"
             "  {0} --version        this program and its libraries\n"
             "  {0} --man            the manual page, with files and exit codes\n"
             "  {0} --completion     completion of words, for bash to source\n\n"
             "Exit code 0 means done, 64 to 78 that something has to be mended first, and 85\n"
             "that the run was stopped and saved: the same command continues it.\n"
             "Read on in docs/README.md; where facet is installed, by `man facet` and in\n"
             "share/doc/facet.\n",
             facet);
}

std::string placeholder_of(const OptionField& field) {
  if (field.is_flag()) return "";
  std::string place = "X";
  if (field.path == OptionField::Path::kDirectory) place = "DIR";
  if (field.path == OptionField::Path::kFile) place = "FILE";
  return place + (field.is_list() ? " ..." : "");
}

std::string notes_of(const OptionField& field) {
  std::string notes;
  for (const std::string& choice : field.choices)
    notes += (notes.empty() ? "one of " : ", ") + choice;
  for (const std::string& kind : field.kinds) notes += fmt::format(", {}:PATH", kind);
  const std::string standard = fmt::format("{}", fmt::join(option_words(field, Options{}), " "));
  if (field.is_flag() || standard.empty()) return notes;
  return fmt::format("{}{}default {}", notes, notes.empty() ? "" : "; ", standard);
}

std::string help_text(Command command) {
  const auto model = [&](const OptionField& f) { return says_the_model(command, f); };
  const auto needed = [&](const OptionField& f) { return is_needed(command, f) && !model(f); };
  const auto usual = [&](const OptionField& f) {
    return f.usual_for_command(command) && !needed(f) && !model(f);
  };
  const bool alone =
      command == Command::kPlan || command == Command::kExport || command == Command::kChat;
  std::string text =
      fmt::format("usage: {}facet {}{} --name value ...\n", alone ? "" : "[mpirun -n N] ",
                  name_of(command), command == Command::kExport ? " OUT|CHECKPOINT|ADAPTER" : "");
  text += section(command, "Needed: the two models, or --checkpoint_names", model);
  text += section(command, "Needed", needed);
  text += section(command, "Usually given", usual);
  text +=
      "\nFrom a file\n  --config FILE\n" +
      wrapped("lines name = value; the command line beats them, and of several files the last one",
              6);
  for (int g = 0; g < kOptionGroups; ++g) {
    const auto group = static_cast<OptionGroup>(g);
    text += section(command, title_of(group), [&](const OptionField& f) {
      return f.group == group && !usual(f) && !needed(f) && !model(f);
    });
  }
  return text;
}

std::string no_command_text(const std::string& word) {
  std::string text;
  const std::string name = word.substr(0, 2) == "--" ? word.substr(2, word.find('=') - 2) : "";
  if (const OptionField* field = find_option(name); field != nullptr || name == "config") {
    text = fmt::format(
        "the command is missing: facet COMMAND --{} ..., with one of {}", name,
        field == nullptr ? "train, evaluate, generate, plan, data-stats" : commands_with(*field));
  } else {
    const std::string nearest = nearest_first_word(word);
    text = fmt::format("there is no command '{:.100}'{}", printable(word),
                       nearest.empty() ? "" : fmt::format("; did you mean facet {}?", nearest));
  }
  return text + "\n  facet --help lists the commands and shows a first run";
}

}  // namespace facet
