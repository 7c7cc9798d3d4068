// facet: trains vision-language chat models, evaluates them, and answers with them.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/end_report.h"
#include "base/log.h"
#include "chat/chat.h"
#include "chat/generate.h"
#include "chat/sample_questions.h"
#include "comm/library_exit.h"
#include "comm/mpi_session.h"
#include "comm/watchdog.h"
#include "job/stop_signals.h"
#include "options/help.h"
#include "options/options.h"
#include "train/commands.h"
#include "train/export_command.h"
#include "train/inspect.h"
#include "train/model_setup.h"
#include "train/plan.h"
#include "train/run_setup.h"
#include "train/version.h"

using namespace facet;

namespace {

void run(MpiSession& session, Watchdog& watchdog, Command command,
         const std::vector<std::string>& words, RunStatus& status) {
  begin_section(Section::kLoad);
  if (command == Command::kChat) log_to_stderr();
  log_line(program_name());
  ParsedOptions parsed;
  collectively(session.world(),
               [&] { parsed = parse_options(command, words, session.world().size()); });
  for (const std::string& note : parsed.notes) log_line(note);
  const Options& options = parsed.options;
  watchdog.set_limits(hang_limits(options));
  if (command == Command::kEvaluate) return evaluate_command(session, options);
  if (command == Command::kGenerate) return generate(session, parsed);
  if (command == Command::kChat) return chat(session, parsed);
  if (command == Command::kBandwidth) return bandwidth_command(session, options);
  if (command == Command::kDataStats) return data_stats(session, options);
  if (command == Command::kCacheFeatures) return cache_features_command(session, options, status);
  if (options.dry_run || options.replay_step > 0)
    set_meaning_of_stop_signals(OnSignal::kEndNow);  // there is nothing to save
  collectively(session.world(), [&] { parsed.options = with_lora_of_adapter(parsed.options); });
  if (options.dry_run) return dry_run(session, options, open_sample_questions);
  if (options.replay_step > 0) return replay_step(session, options, status);
  train(session, options, status, open_sample_questions);
}

ExitCode code_of(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  return known != nullptr ? known->code() : ExitCode::kInternal;
}

// Commands that need no other rank do not start MPI.
int plan_alone(const std::vector<std::string>& words) {
  try {
    const ParsedOptions parsed = parse_options(Command::kPlan, words, 1);
    for (const std::string& note : parsed.notes) log_line(note);
    plan_command(parsed.options, open_sample_questions);
  } catch (const std::exception& error) {
    print_end_report(fmt::format("error: {}", error.what()), "");
    return static_cast<int>(code_of(error));
  }
  return 0;
}

// The usage, with the two programs of an example called as this one was: by a path, where make_tiny
// lies beside it or is installed as facet-make-tiny, or by name.
std::string usage_as_called(const std::string& called) {
  const std::string directory = called.substr(0, called.rfind('/') + 1);
  std::error_code error;
  const bool built = !directory.empty() && std::filesystem::exists(directory + "make_tiny", error);
  return usage_text(called, directory + (built ? "make_tiny" : "facet-make-tiny"));
}

// -h is --help, and so is nothing at all; "help train" and "--help train" are "train --help".
std::vector<std::string> spelled_out(std::vector<std::string> words) {
  std::replace(words.begin(), words.end(), std::string("-h"), std::string("--help"));
  if (words.empty()) words = {"--help"};
  if (words[0] == "help") words[0] = "--help";
  if (words.size() > 1 && words[0] == "--help") std::swap(words[0], words[1]);
  return words;
}

// What the program says before it reads any option, and its exit code; nothing where a command is
// to run.
std::optional<int> answer(const std::string& called, const std::vector<std::string>& words) {
  const auto say = [](const std::string& text) { return fmt::print("{}", text), 0; };
  const std::string& name = words[0];
  if (name == "--help") return say(usage_as_called(called));
  if (name == "--version") return say(version_text() + "\n");
  if (name == "--completion") return say(bash_completion());
  if (name == "--man") return say(manual_page(version_text().substr(0, version_text().find('\n'))));
  if (name == "inspect") return inspect_command({words.begin() + 1, words.end()});
  const std::optional<Command> command = command_from_name(name);
  if (!command) {
    print_end_report("error: " + no_command_text(name), "");
    return static_cast<int>(ExitCode::kUsage);
  }
  const bool help = std::find(words.begin(), words.end(), "--help") != words.end();
  return help ? std::optional(say(help_text(*command))) : std::nullopt;
}

// The last line of every training run, for scripts.
std::string last_line(Command command, ExitCode code, const RunStatus& status) {
  return command == Command::kTrain ? status.exit_line(code) : "";
}

// The end that all ranks know of. None exits before rank 0 has been heard: a launcher ends the job
// with the first process that ends in error.
void end_together(MpiSession& session, const std::string& error, const std::string& last) {
  std::fflush(stdout);
  if (session.rank() == 0) print_end_report(error, last);
  session.world().sum(int64_t{0});
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // exceeding a file size limit then fails the write instead
  std::vector<std::string> words(argv + 1, argv + argc);
  if (const std::optional<int> code = answer(argv[0], spelled_out(words))) return *code;
  const std::optional<Command> command = command_from_name(words[0]);
  words.erase(words.begin());
  if (*command == Command::kPlan) return plan_alone(words);
  if (*command == Command::kExport) return export_command(words);

  const bool goes_on = *command == Command::kTrain || *command == Command::kCacheFeatures;
  catch_stop_signals(goes_on ? OnSignal::kSaveAndStop : OnSignal::kEndNow);
  MpiSession session(argc, argv);
  if (std::getenv("FACET_HOSTNAME") != nullptr)
    warn("FACET_HOSTNAME is set: it, and not the system, names this host");
  RunStatus status;
  std::optional<Watchdog> watchdog;
  ExitCode code = ExitCode::kOk;
  std::string message;
  const LibraryExit exit([&] {
    session.abort_job(ExitCode::kSystem, LibraryExit::kMessage,
                      last_line(*command, ExitCode::kSystem, status));
  });
  try {
    take_stop_signals_in_a_thread();
    watchdog.emplace(
        session.world(), session.host(),
        Watchdog::Questions{
            .last_line = [&](ExitCode end) { return last_line(*command, end, status); },
            .sigterm_came = sigterm_came,
            .signal_that_ends = signal_that_ends});
    session.before_abort([&] { watchdog->expect_abort(); });
    status.set_end_job([&](ExitCode end, const std::string& why) { watchdog->end_job(end, why); });
    run(session, *watchdog, *command, words, status);
    code = status.code();
  } catch (const CollectiveError& error) {  // every rank has this error
    code = error.code();
    message = fmt::format("{}{}", code == ExitCode::kSaved ? "" : "error: ", error.what());
  } catch (const std::exception& error) {  // the others may wait for this rank
    session.abort_job(code_of(error), error.what(), last_line(*command, code_of(error), status));
  }
  end_together(session, message, last_line(*command, code, status));
  return static_cast<int>(code);
}
