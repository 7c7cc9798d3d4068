// Completion for bash. The words that can stand after a command or an option are known when the
// program is built: the file that bash sources has them in it, and no completion starts the
// program.
#include <fmt/format.h>

#include "options/help.h"
#include "options/option_table.h"

namespace facet {

namespace {

// What is the same for every table. $1: program, $2: the word to complete, as `complete -F` gives
// them. COMP_WORDS has = as a word of its own.
constexpr const char* kFunctions = R"bash(
_facet_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2"); }
_facet_paths() { # -f or -d, word
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

# The options of the command that are not on the line yet.
_facet_new_options() {
  local option word left=
  for option in $(_facet_options "$1"); do
    for word in "${COMP_WORDS[@]:2}"; do
      [ "$word" != "$option" ] || [ "$option" = --config ] || continue 2
    done
    left+=" $option"
  done
  echo "$left"
}

_facet() {
  local word=$2 command=${COMP_WORDS[1]:-} at=$((COMP_CWORD - 1)) values=0 option kind
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    _facet_words "$_facet_commands --help --version --man --completion" "$word"
    return
  fi
  if [ "$command" = inspect ]; then
    case $word in -*) _facet_words --help "$word" ;; *) _facet_paths -d "$word" ;; esac
    return
  fi
  if [ "$command" = export ] && [ "$COMP_CWORD" = 2 ] && [[ $word != -* ]]; then
    _facet_paths -d "$word"
    return
  fi
  if [ "$word" = = ]; then word=; fi
  # The option whose value the word may be, and how many values that has already.
  while [ "$at" -gt 1 ] && [[ ${COMP_WORDS[at]} != --* ]]; do
    if [ "${COMP_WORDS[at]}" != = ]; then values=$((values + 1)); fi
    at=$((at - 1))
  done
  option=${COMP_WORDS[at]}
  kind=$(_facet_kind "$option")
  if [[ $word != -* ]] && { [ "$values" = 0 ] || [[ $kind = list* ]]; }; then
    case $kind in
      flag) if [ -n "$word" ] || [ "${COMP_WORDS[at + 1]}" = = ]; then _facet_words 'true false' "$word"; fi ;;
      *directory) _facet_paths -d "$word" ;;
      *file) _facet_paths -f "$word" ;;
      *value) _facet_words "$(_facet_choices "$option")" "$word" ;;
    esac
    [ ${#COMPREPLY[@]} = 0 ] || return 0
    case $kind in flag | list*) ;; ?*) return 0 ;; esac # a value has to come first
  fi
  _facet_words "$(_facet_new_options "$command") --help" "$word"
}
complete -F _facet facet
)bash";

// Of small ranges of whole numbers too, such as 0 1 2 3.
std::vector<std::string> choices_of(const OptionField& field) {
  std::vector<std::string> choices = field.choices;
  for (const std::string& kind : field.kinds) choices.push_back(kind + ":");
  const bool whole = std::holds_alternative<int64_t Options::*>(field.member);
  if (whole && field.high - field.low < 10)
    for (double value = field.low; value <= field.high; ++value)
      choices.push_back(fmt::format("{:.0f}", value));
  return choices;
}

std::string kind_of(const OptionField& field) {
  if (field.is_flag()) return "flag";
  std::string kind = field.is_list() ? "list_of_" : "";
  if (field.path == OptionField::Path::kDirectory) return kind + "directory";
  return kind + (field.path == OptionField::Path::kFile ? "file" : "value");
}

std::string options_function() {
  std::string text = "_facet_options() {\n  case $1 in\n";
  for (const Command command : all_commands()) {
    text += fmt::format("    {}) echo --config", name_of(command));
    for (const OptionField& field : option_table())
      if (field.is_shown_to(command)) text += fmt::format(" --{}", field.name);
    text += " ;;\n";
  }
  return text + "  esac\n}\n";
}

// A `case` of a shell function: each option, and what `text_of` gives for it, where that is
// something.
template <typename TextOf>
std::string function_of_option(const std::string& name, TextOf&& text_of) {
  std::string text = name + "() {\n  case $1 in\n";
  for (const OptionField& field : option_table()) {
    const std::string words = field.state == OptionField::State::kIgnored ? "" : text_of(field);
    if (!words.empty()) text += fmt::format("    --{}) echo {} ;;\n", field.name, words);
  }
  return text + "  esac\n}\n";
}

}  // namespace

std::string bash_completion() {
  std::string text =
      "# Completion of facet's words for bash (4 or newer), written by facet --completion.\n"
      "_facet_commands='";
  for (const CommandSummary& command : command_summaries())
    text += std::string(text.back() == '\'' ? "" : " ") + command.name;
  text += "'\n" + options_function();
  std::string kinds = function_of_option("_facet_kind", kind_of);
  kinds.insert(kinds.find("    --"), "    --config) echo file ;;\n");
  text += kinds + function_of_option("_facet_choices", [](const OptionField& field) {
            return fmt::format("{}", fmt::join(choices_of(field), " "));
          });
  return text + (kFunctions + 1);
}

}  // namespace facet
