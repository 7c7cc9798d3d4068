#include "train/export_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace facet {

namespace {

namespace fs = std::filesystem;

// LoRA, and what an adapter has whole beside it.
bool trains_adapter_alone(const ParamTable& table) {
  bool lora = false;
  for (const Param& param : table.params()) {
    const bool of_models =
        param.name.starts_with("lang_decoder.") || param.name.starts_with("vis_encoder.");
    if (!param.trained || !of_models) continue;
    if (param.role == ParamRole::kLora)
      lora = true;
    else if (param.saved_as.empty())
      return false;
  }
  return lora;
}

// N of "epoch-N" as a run writes it, so without a sign and leading zeros; 0 for other names.
int64_t epoch_in(std::string_view name) {
  constexpr std::string_view kPrefix = "epoch-";
  if (!name.starts_with(kPrefix)) return 0;
  int64_t epoch = 0;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), epoch);
  return epoch > 0 && name == fmt::format("{}{}", kPrefix, epoch) ? epoch : 0;
}

// Whether a path leads through a directory of exports, OUT/best or OUT/epoch-N.
bool leads_through_export(const fs::path& path, const std::string& output_dir) {
  std::error_code error;
  for (fs::path part = path; part.has_relative_path(); part = part.parent_path()) {
    const std::string name = part.filename().string();
    if ((name == "best" || epoch_in(name) > 0) &&
        fs::equivalent(part.parent_path(), output_dir, error))
      return true;
  }
  return false;
}

// Ascending.
std::vector<int64_t> exports_in(const std::string& output_dir) {
  std::vector<int64_t> epochs;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir, error))
    if (fs::exists(entry.path() / "projection.safetensors", error))
      if (const int64_t epoch = epoch_in(entry.path().filename().string()); epoch > 0)
        epochs.push_back(epoch);
  std::sort(epochs.begin(), epochs.end());
  return epochs;
}

}  // namespace

ExportPlan plan_exports(const Options& options, const ParamTable& table) {
  if (options.export_kind == "none") return {};
  if (options.export_kind == "adapter") return {ExportKind::kAdapter, ExportKind::kAdapter};
  const bool adapters = options.export_kind == "auto" && trains_adapter_alone(table);
  return {adapters ? ExportKind::kAdapter : ExportKind::kFull, ExportKind::kFull};
}

std::optional<DType> export_type(const Options& options) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16})
    if (options.export_dtype == name_of(type)) return type;
  return std::nullopt;
}

const char* text_of(ExportKind kind) {
  return kind == ExportKind::kAdapter ? "an adapter" : "the model";
}

int64_t exported_epochs(const Options& options, int64_t epochs) {
  return (epochs + options.export_every - 1) / options.export_every;
}

// As it is given, and where links lead.
void check_sources_stay(const Options& options) {
  if (options.export_kind == "none" || options.output_dir.empty()) return;
  for (const std::string& source :
       {options.lm_model_name_or_path, options.vision_model_name_or_path, options.projection,
        options.adapter}) {
    if (source.empty()) continue;
    std::error_code error;
    const fs::path given = fs::absolute(source, error).lexically_normal();
    CHECK(!leads_through_export(given, options.output_dir) &&
              !leads_through_export(fs::weakly_canonical(given, error), options.output_dir),
          ExitCode::kConfig,
          "{}: the run would read it from among the exports of its own --output_dir {}, which it "
          "replaces and removes; name another --output_dir, or move it out of there",
          source, options.output_dir);
  }
}

// Renamed first: what a killed run leaves of it is tidied up by its name.
void remove_old_exports(const std::string& output_dir, int64_t keep, int64_t newest) {
  if (keep == 0) return;
  std::vector<int64_t> epochs = exports_in(output_dir);
  std::erase_if(epochs, [&](int64_t epoch) { return epoch > newest; });
  while (static_cast<int64_t>(epochs.size()) > keep) {
    const std::string place = fmt::format("{}/epoch-{}", output_dir, epochs.front());
    const std::string removed = fmt::format("{}.removed-{}", place, ::getpid());
    std::error_code error;
    fs::rename(place, removed, error);
    if (!error) fs::remove_all(removed, error);
    CHECK(!error, ExitCode::kIo, "{}: the old export cannot be removed: {}", place,
          error.message());
    epochs.erase(epochs.begin());
  }
}

}  // namespace facet
