// What the program says of itself: complete, true, and readable on a terminal of 80 columns.
#include "options/help.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "options/option_table.h"

namespace facet {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void expect_narrow(const std::string& text) {
  for (const std::string& line : lines_of(text)) EXPECT_LE(line.size(), 80u) << line;
}

// With every run of white space as one blank: what is said, however its lines are broken.
std::string flat(const std::string& text) {
  std::istringstream stream(text);
  std::string joined;
  for (std::string word; stream >> word;) joined += word + " ";
  return joined;
}

int64_t count_of(const std::string& part, const std::string& text) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Help, FitsATerminalAndNamesEveryCommand) {
  const std::string installed = usage_text("facet", "facet-make-tiny");
  EXPECT_LE(lines_of(installed).size(), 40u);
  expect_narrow(installed);
  expect_narrow(usage_text("build/facet", "build/make_tiny"));
  const auto expect_named = [&](const std::string& command) {
    EXPECT_EQ(count_of("\n  " + command + " ", installed), 1) << command;
  };
  for (const Command command : all_commands()) expect_named(name_of(command));
  expect_named("inspect");
  EXPECT_NE(usage_text("build/facet", "build/make_tiny").find("mpirun -n 2 build/facet train"),
            std::string::npos);
}

TEST(Help, OfACommandHasEachOptionOnceAndTheNeededFirst) {
  for (const Command command : all_commands()) {
    const std::string help = help_text(command);
    expect_narrow(help);
    for (const OptionField& field : option_table()) {
      const std::string entry = std::string("\n  --") + field.name;
      const int64_t times = count_of(entry + "\n", help) + count_of(entry + " ", help);
      EXPECT_EQ(times, field.is_shown_to(command) ? 1 : 0) << name_of(command) << entry;
      if (!field.required_by_command(command)) continue;
      EXPECT_LT(help.find(entry), help.find("\nUsually given\n")) << entry;
    }
    EXPECT_LT(help.find("\nUsually given\n"), help.find("\nModel\n")) << name_of(command);
  }
  const std::string train = help_text(Command::kTrain);  // what a run cannot be without
  EXPECT_LT(train.find("\n  --output_dir DIR"), train.find("\nUsually given\n"));
  // Only with --sample_prompts, and so not usual; of generate it is.
  EXPECT_GT(train.find("\n  --max_new_tokens"), train.find("\nGeneration\n"));
  const std::string generate = help_text(Command::kGenerate);  // the model in one of two ways
  const size_t model = generate.find("\nNeeded: the two models, or --checkpoint_names\n");
  EXPECT_LT(model, generate.find("\n  --vision_model_name_or_path"));
  EXPECT_LT(generate.find("\n  --checkpoint_names X ..."), generate.find("\nNeeded\n"));
  EXPECT_LT(generate.find("\n  --max_new_tokens"), generate.find("\nModel\n"));
}

TEST(Help, ListsOnlyWhatWorks) {
  const std::string help = help_text(Command::kTrain);
  for (const char* there :
       {"--learning_rate X ", "default 0.001", "--only_optimize_lora ", "Optimizer",
        "--config FILE", "--output_dir DIR ", "[one of fp32, bf16, fp16; default fp32]"})
    EXPECT_NE(flat(help).find(there), std::string::npos) << there;
  EXPECT_NE(help_text(Command::kGenerate).find("--top_k"), std::string::npos);
  for (const char* hidden : {"--local_rank", "--num_answers"})
    EXPECT_EQ(help.find(hidden), std::string::npos) << hidden;
  for (const char* hidden : {"local_rank"}) {
    EXPECT_EQ(bash_completion().find(hidden), std::string::npos) << hidden;
    EXPECT_EQ(manual_page("facet 1").find(hidden), std::string::npos) << hidden;
  }
}

TEST(Help, AFirstWordThatIsNoCommand) {
  const auto says = [](const char* word, const char* part) {
    EXPECT_NE(no_command_text(word).find(part), std::string::npos) << no_command_text(word);
  };
  says("trian", "there is no command 'trian'; did you mean facet train?");
  says("training", "did you mean facet train?");
  says("eval", "did you mean facet evaluate?");
  says("generation", "did you mean facet generate?");
  says("Plan", "did you mean facet plan?");
  says("--dry_run", "the command is missing: facet COMMAND --dry_run ..., with one of train, plan");
  says("--num_answers=3", "facet COMMAND --num_answers ..., with one of generate");
  says("--config", "with one of train, evaluate, generate, plan, data-stats");
  says("--trian", "did you mean facet train?");
  says("--verison", "did you mean facet --version?");
  says("version", "did you mean facet --version?");
  says("a\nb", "'a\\nb'");
  for (const char* word : {"", "x", "zzzzz", "--", "--nothing", "/bin/ls"})
    EXPECT_EQ(no_command_text(word).find("did you mean"), std::string::npos) << word;
}

TEST(Help, TheManualHasEveryOptionAndItsSectionsInOrder) {
  const std::string page = manual_page("facet 1.2");
  EXPECT_NE(page.find("\"facet 1.2\""), std::string::npos);
  size_t at = 0;
  for (const char* section : {"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS",
                              "EXIT STATUS", "FILES", "EXAMPLES"}) {
    const size_t next = page.find(std::string("\n.SH ") + section + "\n");
    ASSERT_NE(next, std::string::npos) << section;
    EXPECT_GT(next, at) << section;
    at = next;
  }
  for (const OptionField& field : option_table()) {
    const std::string tag = std::string("\n\\fB\\-\\-") + field.name + "\\fR";
    EXPECT_EQ(count_of(tag, page), field.state == OptionField::State::kIgnored ? 0 : 1) << tag;
  }
}

// A line of text that began with a dot would be taken for a request, and be lost.
TEST(Help, TextOfTheManualIsTakenAsItIs) {
  EXPECT_EQ(man_literal("../images"), "\\&../images");
  EXPECT_EQ(man_literal("'a' or 'b'"), "\\&'a' or 'b'");
  EXPECT_EQ(man_literal("a -1 \\n."), "a \\-1 \\en.");
  EXPECT_EQ(man_literal(""), "");
}

// What must be there before the program starts is checked by check_paths; what it makes is not.
TEST(Help, PlaceholdersSayWhatAValueIs) {
  EXPECT_EQ(placeholder_of(*find_option("output_dir")), "DIR");
  EXPECT_EQ(placeholder_of(*find_option("deepspeed_config")), "FILE");
  EXPECT_EQ(placeholder_of(*find_option("dataset_names")), "X ...");
  EXPECT_EQ(placeholder_of(*find_option("dry_run")), "");
}

}  // namespace
}  // namespace facet
