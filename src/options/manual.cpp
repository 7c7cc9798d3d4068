// The manual page, in the macros of man(7).
#include <fmt/format.h>

#include <array>

#include "base/check.h"
#include "options/help.h"
#include "options/option_table.h"

namespace facet {

namespace {

struct Described {
  const char* name;
  const char* text;
};

constexpr std::array<Described, 10> kFiles = {{
    {"OUT/loss_log.csv, OUT/eval_log.csv", "a row for each step, for each evaluation"},
    {"OUT/loss_curve.svg", "the same as a picture"},
    {"OUT/run.json", "every start of the run: when, where, with what, and how it ended"},
    {"OUT/options.cfg", "every option of the run, as --config reads it"},
    {"OUT/checkpoints/step_N/", "from which the same command continues"},
    {"OUT/epoch-N/, OUT/best/",
     "exported models and adapters, which Transformers and PEFT read too"},
    {"OUT/run.lock", "there while a run holds the directory"},
    {"PREFIX/share/facet/slurm/", "job scripts for Slurm; site.env there is the file to edit"},
    {"PREFIX/share/facet/scripts/", "plots and checks of logs, checkpoints and exports, in Python"},
    {"PREFIX/share/doc/facet/", "the documentation: docs/README.md is its list of pages"},
}};

constexpr std::array<std::pair<ExitCode, const char*>, 12> kExitCodes = {{
    {ExitCode::kOk, "done"},
    {ExitCode::kUsage, "the command line cannot be used"},
    {ExitCode::kBadData, "an input file is wrong, or too many samples are bad"},
    {ExitCode::kMissingInput, "an input file or directory is not there, or is no regular file"},
    {ExitCode::kInternal, "a bug of facet"},
    {ExitCode::kSystem, "the system refuses a thread or an open file: a limit of it is reached"},
    {ExitCode::kIo, "writing failed, or the disk is full"},
    {ExitCode::kConfig,
     "options contradict each other or the model files, or ask for what is not supported yet"},
    {ExitCode::kSaved, "stopped on request and saved: the same command continues"},
    {ExitCode::kHang, "a rank hung, or a host was lost"},
    {ExitCode::kNumericStop,
     "too many steps without a finite gradient; or the model is of no use in the end"},
    {ExitCode::kDeadRank, "a rank died"},
}};

std::string item(const std::string& tag, const std::string& text) {
  return fmt::format(".TP\n\\fB{}\\fR\n{}\n", man_literal(tag), man_literal(text));
}

std::string commands_of(const OptionField& field) {
  std::string names;
  for (const Command command : all_commands())
    if (field.is_shown_to(command))
      names += (names.empty() ? "for " : ", ") + std::string(name_of(command));
  return names;
}

std::string option_item(const OptionField& field) {
  const std::string place = placeholder_of(field), notes = notes_of(field);
  const std::string value = place.empty() ? "" : " \\fI" + man_literal(place) + "\\fR";
  return fmt::format(".TP\n\\fB{}\\fR{}\n{}\n", man_literal("--" + std::string(field.name)), value,
                     man_literal(fmt::format("{} [{}{}{}]", field.help, notes,
                                             notes.empty() ? "" : "; ", commands_of(field))));
}

std::string options_section() {
  std::string text =
      ".SH OPTIONS\nEach option stands on the command line once, as\n\\fB\\-\\-name value\\fR or "
      "\\fB\\-\\-name=value\\fR.\n" +
      item("--config FILE",
           "lines name = value; the command line beats them, and of several files the last one") +
      item("--help", "the options of a command, the needed ones first");
  for (int g = 0; g < kOptionGroups; ++g) {
    const auto group = static_cast<OptionGroup>(g);
    text += fmt::format(".SS {}\n", title_of(group));
    for (const OptionField& field : option_table())
      if (field.group == group && field.state != OptionField::State::kIgnored)
        text += option_item(field);
  }
  return text;
}

std::string commands_section() {
  std::string text = ".SH COMMANDS\n";
  for (const CommandSummary& command : command_summaries())
    text += item(command.name, command.text);
  return text + item("--help, --version", "a first run; this program and its libraries") +
         item("--man, --completion", "this page; a file for bash to source, which completes words");
}

std::string lists() {
  std::string text = ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : kExitCodes)
    text += item(fmt::format("{}", static_cast<int>(code)), meaning);
  text += item("1", "of inspect: two checkpoints differ") +
          ".PP\nThe last line of a training run says the same for scripts:\n"
          "EXIT code=N reason=WORD step=N checkpoint=NAME.\n.SH FILES\n";
  for (const Described& file : kFiles) text += item(file.name, file.text);
  text += ".SH EXAMPLES\nA first run, with a tiny example:\n.PP\n.nf\n";
  for (const std::string& line : first_steps("facet", "facet-make-tiny"))
    text += man_literal(line) + "\n";
  return text + ".fi\n";
}

}  // namespace

std::string man_literal(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  const bool request = !text.empty() && (text[0] == '.' || text[0] == '\'');
  return (request ? "\\&" : "") + escaped;
}

std::string manual_page(const std::string& version) {
  return fmt::format(
             ".TH FACET 1 \"\" \"{}\" \"User Commands\"\n.nh\n.ad l\n"
             ".SH NAME\nfacet \\- trains vision\\-language chat models on MPI ranks\n"
             ".SH SYNOPSIS\n[\\fBmpirun \\-n\\fR \\fIN\\fR] \\fBfacet\\fR \\fICOMMAND\\fR "
             "[\\fB\\-\\-name\\fR \\fIvalue\\fR ...]\n"
             ".br\n\\fBfacet inspect\\fR \\fIMODEL\\fR\n"
             ".br\n\\fBfacet inspect\\fR \\fICHECKPOINT\\fR [\\fICHECKPOINT\\fR]\n"
             ".br\n\\fBfacet export\\fR \\fIOUT|CHECKPOINT|ADAPTER\\fR \\fB\\-\\-to\\fR "
             "\\fIDIR\\fR\n"
             ".SH DESCRIPTION\nTrains a vision encoder, a projection and a language model from "
             "Hugging Face model\ndirectories, one process a rank, started by mpirun or srun; "
             "without either as one rank.\nThe same command again continues a run that was cut.\n",
             man_literal(version)) +
         commands_section() + options_section() + lists();
}

}  // namespace facet
