#include "train/export_command.h"

#include <filesystem>
#include <new>
#include <utility>

#include "base/end_report.h"
#include "base/log.h"
#include "checkpoint/weight_origins.h"
#include "io/file.h"
#include "train/export_place.h"
#include "train/export_plan.h"
#include "train/stored_model.h"

namespace facet {

namespace {

constexpr int64_t kMaxOptionsBytes = int64_t{1} << 24;

// The options of the run with those of this command in place of them.
Options with_own(Options run, const Options& given) {
  run = with_models_of(std::move(run), given);
  run.export_kind = given.export_kind == "adapter" ? "adapter" : "full";
  run.export_dtype = given.export_dtype;
  run.to = given.to;
  return run;
}

void check_unused(const std::string& to) {
  namespace fs = std::filesystem;
  CHECK(!fs::exists(fs::symlink_status(to)), ExitCode::kConfig,
        "--to {}: is there already, and nothing is replaced; name another directory", to);
}

void write(const Options& options, const ModelSetup& model, const ReadParam& read_trained) {
  const ExportPlan plan = plan_exports(options, model.table);
  const ExportPlace place(options.to);
  check_unused(options.to);  // another export may have been there until now
  export_model(options.to, model.table, model.config, export_sources(options, model),
               {.kind = *plan.last, .type = export_type(options)}, read_trained);
  log("exported {} ({})", options.to, text_of(*plan.last));
}

void export_checkpoint(const std::string& source, const Options& given) {
  StoredRun run = stored_run(source, given);
  run.options = with_own(std::move(run.options), given);
  const StoredModel stored(std::move(run));
  stored.check_frozen(stored.frozen_hash());
  log("from {}", stored.text());
  write(stored.options(), stored.setup(),
        [&](const Param& param, int64_t begin, int64_t count, float* out) {
          stored.read_trained(param, begin, count, out);
        });
}

// Of a run: options.cfg lies in the directory above.
void export_adapter(const std::string& source, const Options& given) {
  std::error_code error;
  const auto place = std::filesystem::canonical(source, error);
  const std::string of_run = (place.parent_path() / "options.cfg").string();
  CHECK(!error && std::filesystem::exists(of_run), ExitCode::kMissingInput,
        "{}: the adapter does not lie in the directory of its run: there is no {} with the run's "
        "options",
        source, of_run);
  Options options = with_own(options_of_run(read_file(of_run, kMaxOptionsBytes), of_run), given);
  options.adapter = source;
  options.projection.clear();  // the adapter has its own
  const std::unique_ptr<ModelSetup> model = declare_as_trained(options);
  const WeightOrigins origins(model->table, model->config, sources_of(options),
                              static_cast<uint64_t>(options.seed));
  write(options, *model, [&](const Param& param, int64_t begin, int64_t count, float* out) {
    origins.read(param, begin, count, out);
  });
}

void export_from(const std::vector<std::string>& words) {
  CHECK(!words.empty() && !words[0].starts_with("--"), ExitCode::kUsage,
        "facet export takes a run's directory, a checkpoint or an adapter first; see facet export "
        "--help");
  const std::string& source = words[0];
  const ParsedOptions parsed = parse_options(Command::kExport, {words.begin() + 1, words.end()}, 1);
  for (const std::string& note : parsed.notes) log_line(note);
  tidy_published(parsed.options.to);
  check_unused(parsed.options.to);
  if (is_adapter(source)) return export_adapter(source, parsed.options);
  export_checkpoint(source, parsed.options);
}

}  // namespace

int export_command(const std::vector<std::string>& words) {
  try {
    export_from(words);
    return 0;
  } catch (const Error& error) {
    print_end_report(fmt::format("error: {}", error.what()), "");
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    print_end_report(fmt::format("error: {}", error.what()), "");
    return static_cast<int>(ExitCode::kInternal);
  }
}

}  // namespace facet
