// What the program says of itself: --help, the manual page, completion in a shell. All of it
// follows from the table of options, and names only what works.
#pragma once

#include <string>
#include <vector>

#include "options/options.h"

namespace facet {

struct CommandSummary {
  const char* name;
  const char* text;
};
// train first, and inspect, which has no options.
const std::vector<CommandSummary>& command_summaries();

// The command lines of a first run, with a tiny example. `facet` and `make_tiny` are how these two
// programs are called; a line that is continued ends with a backslash.
std::vector<std::string> first_steps(const std::string& facet, const std::string& make_tiny);

// facet --help, for somebody who has never run it: at most 40 lines of 80 columns.
std::string usage_text(const std::string& facet, const std::string& make_tiny);

// facet COMMAND --help: its options, what is needed and what is usual first, then by group.
std::string help_text(Command command);

// What is wrong with a first word that is no command, and what may have been meant.
std::string no_command_text(const std::string& word);

// facet --man: the manual page, in man(7)'s macros.
std::string manual_page(const std::string& version);
// A line of text as it is to be read there, whatever it begins with and however many dashes and
// backslashes it holds.
std::string man_literal(const std::string& text);

// facet --completion: a file for bash to source.
std::string bash_completion();

struct OptionField;

// "X", "DIR", "FILE"; with " ..." for a list, "" for a flag.
std::string placeholder_of(const OptionField& field);

// "one of fp32, bf16, fp16; default fp32", or nothing.
std::string notes_of(const OptionField& field);

}  // namespace facet
