#include "train/export_command.h"

#include <algorithm>
#include <filesystem>
#include <new>

#include "base/end_report.h"
#include "base/log.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/weight_origins.h"
#include "io/file.h"
#include "io/input_file.h"
#include "train/export_plan.h"
#include "train/model_setup.h"
#include "train/stored_checkpoint.h"
#include "zero/value_hash.h"

namespace facet {

namespace {

constexpr int64_t kMaxOptionsBytes = int64_t{1} << 24;

// The options of the run with those of this command in place of them.
Options with_own(Options run, const Options& given) {
  const auto take = [](std::string& value, const std::string& own) {
    if (!own.empty()) value = own;
  };
  const bool whole = run.vision_model_name_or_path == run.lm_model_name_or_path;  // LLaVA's
  take(run.lm_model_name_or_path, given.lm_model_name_or_path);
  if (whole) run.vision_model_name_or_path = run.lm_model_name_or_path;
  take(run.vision_model_name_or_path, given.vision_model_name_or_path);
  run.export_kind = given.export_kind == "adapter" ? "adapter" : "full";
  run.export_dtype = given.export_dtype;
  run.to = given.to;
  return run;
}

std::unique_ptr<ModelSetup> declare_as_trained(const Options& options) {
  for (const std::string& model :
       {options.lm_model_name_or_path, options.vision_model_name_or_path})
    CHECK(std::filesystem::is_directory(model), ExitCode::kMissingInput,
          "{}: the run was made with the model in this directory, which is not there; say where it "
          "is with --lm_model_name_or_path or --vision_model_name_or_path",
          model);
  std::unique_ptr<ModelSetup> model = declare_model(
      options, options.replay.empty() ? MissingTokenizer::kError : MissingTokenizer::kAssume);
  choose_trained(options, model->table);
  return model;
}

// Of the values as a run begins with them: compared with what a checkpoint says of its run.
std::string frozen_hash(const ParamTable& table, const WeightOrigins& origins) {
  constexpr int64_t kPieceElements = int64_t{1} << 20;
  std::vector<float> piece(static_cast<size_t>(kPieceElements));
  uint64_t sum = 0;
  for (const Param& param : table.params()) {
    if (param.trained) continue;
    for (int64_t begin = 0; begin < param.numel(); begin += kPieceElements) {
      const int64_t count = std::min(kPieceElements, param.numel() - begin);
      origins.read(param, begin, count, piece.data());
      sum += value_hash(param, begin, piece.data(), count);
    }
  }
  return fmt::format("{:016x}", sum);
}

void write(const Options& options, const ModelSetup& model, const ReadParam& read_trained) {
  const ExportPlan plan = plan_exports(options, model.table);
  export_model(options.to, model.table, model.config, export_sources(options, model),
               {.kind = *plan.last, .type = export_type(options)}, read_trained);
  log("exported {} ({})", options.to, text_of(*plan.last));
}

void export_checkpoint(const std::string& source, const Options& given) {
  const StoredCheckpoint checkpoint = open_verified(source);
  const RunState& state = checkpoint.manifest.state;
  const Options options = with_own(options_of_run(state.options, checkpoint.directory), given);
  const std::unique_ptr<ModelSetup> model = declare_as_trained(options);
  const WeightOrigins origins(model->table, model->config, sources_of(options),
                              static_cast<uint64_t>(options.seed));
  CHECK(frozen_hash(model->table, origins) == state.frozen_hash, ExitCode::kConfig,
        "{} was trained on other models than {} and {}: their frozen weights differ",
        checkpoint.directory, options.lm_model_name_or_path, options.vision_model_name_or_path);
  log("from {}: step {}, epoch {}", checkpoint.directory, state.step, state.epoch + 1);
  const InputFile file(state_file_of(checkpoint.directory), ExitCode::kIo);
  write(options, *model, [&](const Param& param, int64_t begin, int64_t count, float* out) {
    const StoredArray* array = checkpoint.manifest.find(fmt::format("param/{}/fp32", param.name));
    CHECK(array != nullptr && array->shape == param.shape, ExitCode::kConfig,
          "{}: {} is not in it as the options of its run describe it", checkpoint.directory,
          param.name);
    constexpr int64_t kBytes = sizeof(float);
    file.read_at(array->offset + begin * kBytes, out, count * kBytes);
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
  CHECK(!std::filesystem::exists(parsed.options.to), ExitCode::kConfig,
        "--to {}: is there already, and nothing is replaced; name another directory",
        parsed.options.to);
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
