#include "checkpoint/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "io/json.h"
#include "io/tensor_directory.h"
#include "model/saved_modules.h"

namespace facet {

namespace {

constexpr std::string_view kConfigFile = "/adapter_config.json";
constexpr std::string_view kKeyPrefix = "base_model.model.";
constexpr std::string_view kRight = ".lora_right_weight";
// How the names of a linear layer's LoRA end in a parameter table and in PEFT's files.
struct NameEnds {
  std::string_view ours, theirs;
};
constexpr std::array<NameEnds, 3> kMatrices = {
    NameEnds{kRight, ".lora_A.weight"}, NameEnds{".lora_left_weight", ".lora_B.weight"},
    NameEnds{".lora_magnitude_vector", ".lora_magnitude_vector"}};
constexpr size_t kMagnitude = 2;
constexpr int64_t kMaxRank = 1 << 16;
constexpr double kMaxAlpha = 1e6;

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string if_there(const std::string& path) { return exists(path) ? path : ""; }

bool has_config(const std::string& directory) {
  return exists(directory + std::string(kConfigFile));
}

// null, false, "", [] and {} say that something is not used.
bool is_used(const JsonValue& value) {
  switch (value.kind()) {
    case JsonKind::kNull: return false;
    case JsonKind::kBool: return value.as_bool();
    case JsonKind::kString: return !value.as_string().empty();
    case JsonKind::kArray:
    case JsonKind::kObject: return value.size() > 0;
    default: return true;
  }
}

// Members that are read, or whose use changes neither what the matrices mean nor what else belongs
// to the adapter: how PEFT chose the modules, how it started and trained them.
constexpr std::string_view kKnownMembers[] = {"alpha_pattern",
                                              "auto_mapping",
                                              "base_model_name_or_path",
                                              "bias",
                                              "corda_config",
                                              "ensure_weight_tying",
                                              "eva_config",
                                              "exclude_modules",
                                              "inference_mode",
                                              "init_lora_weights",
                                              "layers_pattern",
                                              "layers_to_transform",
                                              "loftq_config",
                                              "lora_alpha",
                                              "lora_dropout",
                                              "lora_ga_config",
                                              "megatron_core",
                                              "modules_to_save",
                                              "peft_type",
                                              "peft_version",
                                              "qalora_group_size",
                                              "r",
                                              "rank_pattern",
                                              "revision",
                                              "runtime_config",
                                              "target_modules",
                                              "task_type",
                                              "use_dora",
                                              "use_rslora",
                                              "velora_config"};

// Whatever else is used may change that, as trainable_token_indices does.
void refuse_unsupported(const JsonValue& config) {
  if (const std::string type = config.get_string("peft_type", "LORA"); type != "LORA")
    config.at("peft_type").reject(fmt::format("only LORA is supported, not {}", type));
  for (int64_t i = 0; i < config.size(); ++i) {
    const auto [name, value] = config.member(i);
    if (std::find(std::begin(kKnownMembers), std::end(kKnownMembers), name) ==
            std::end(kKnownMembers) &&
        is_used(value))
      value.reject(fmt::format(
          "{} is not supported; remove it only if the model is the same without it", name));
  }
  if (const std::string bias = config.get_string("bias", "none"); bias != "none")
    config.at("bias").reject(fmt::format("trained biases ({}) are not supported", bias));
  const std::optional<JsonValue> start = config.find("init_lora_weights");
  if (start && start->is_string() && start->as_string() != "gaussian" &&
      start->as_string() != "eva" && start->as_string() != "orthogonal")
    start->reject(
        fmt::format("{} changes the base model's weights, which is not supported: convert "
                    "it to plain LoRA in Python (save_pretrained with "
                    "path_initial_model_for_weight_conversion)",
                    start->as_string()));
}

// The path of the linear layer to which a tensor of an adapter belongs; "" if to none.
std::string module_of(const std::string& name, bool dora) {
  for (size_t i = 0; i < (dora ? kMatrices.size() : kMagnitude); ++i) {
    const size_t around = kKeyPrefix.size() + kMatrices[i].theirs.size();
    if (name.starts_with(kKeyPrefix) && name.ends_with(kMatrices[i].theirs) && name.size() > around)
      return name.substr(kKeyPrefix.size(), name.size() - around);
  }
  return "";
}

// LoRA on the embedding or the head, beside which PEFT saves the table itself.
void refuse_tables_of_tokens(const TensorDirectory& tensors) {
  for (const std::string& name : tensors.names())
    for (const std::string_view table : {"embed_tokens.", "lm_head."})
      CHECK(name.find(fmt::format("{}lora_", table)) == name.npos &&
                name.find(fmt::format("{}base_layer.", table)) == name.npos,
            ExitCode::kConfig,
            "{}: {}: LoRA on embed_tokens or lm_head is not supported; merge the adapter into the "
            "model in Python (merge_and_unload)",
            tensors.source(), name);
}

// The paths of the modules that have matrices. Beside them may be the tensors of saved modules.
std::set<std::string, std::less<>> modules_in(const TensorDirectory& tensors, bool dora,
                                              bool saves) {
  refuse_tables_of_tokens(tensors);
  std::set<std::string, std::less<>> modules;
  for (const std::string& name : tensors.names()) {
    const std::string module = module_of(name, dora);
    if (module.empty() && saves && name.starts_with(kKeyPrefix)) continue;
    CHECK(!module.empty(), ExitCode::kConfig,
          "{}: {} is no matrix of {} on a linear layer ({}PATH{}), and modules_to_save does not "
          "name it; other weights in an adapter are not supported",
          tensors.source(), name, dora ? "DoRA" : "LoRA", kKeyPrefix, kMatrices[0].theirs);
    modules.insert(module);
  }
  CHECK(!modules.empty(), ExitCode::kConfig, "{}: there is no matrix of LoRA in it",
        tensors.source());
  return modules;
}

std::string weights_of(const std::string& directory) {
  for (const char* name : {"/adapter_model.safetensors", "/adapter_model.bin"})
    if (exists(directory + name)) return directory + name;
  fail(ExitCode::kMissingInput,
       "{}: adapter_config.json is there, but neither adapter_model.safetensors nor "
       "adapter_model.bin",
       directory);
}

int64_t checked_rank(const JsonValue& value) {
  const int64_t rank = value.as_int();
  if (rank < 1 || rank > kMaxRank) value.reject(fmt::format("a rank of {} is not possible", rank));
  return rank;
}

float checked_alpha(const JsonValue& value) {
  const double alpha = value.as_double();
  if (!(std::abs(alpha) <= kMaxAlpha))
    value.reject(fmt::format("an alpha of {} is not possible", alpha));
  return static_cast<float>(alpha);
}

// A member of rank_pattern or alpha_pattern. PEFT takes its key as a regular expression of how a
// module's path ends, here it must be plain text: names with dots, of which each stands for any
// character unless it is written as "\.", behind a '^' the whole path.
template <typename T>
struct PatternMember {
  std::string key, end;
  bool whole = false;
  T value;

  bool is_end(std::string_view text) const {
    constexpr std::string_view kDot = "\\.";
    std::string_view left = end;
    for (const char c : text) {
      const bool escaped = left.starts_with(kDot);
      if (left.empty() || (left[0] != '.' && left[escaped ? 1 : 0] != c)) return false;
      left.remove_prefix(escaped ? kDot.size() : 1);
    }
    return left.empty();
  }
  bool ends(std::string_view path) const {
    for (size_t dot = path.find('.'); !whole && dot != path.npos; dot = path.find('.', dot + 1))
      if (is_end(path.substr(dot + 1))) return true;
    return false;
  }
  bool fits(std::string_view path) const { return is_end(path) || ends(path); }
};

// Letters, digits, '_', '-' and '.', which may be written as "\.".
bool is_plain(std::string_view end) {
  for (size_t i = 0; i < end.size(); ++i) {
    if (end.substr(i).starts_with("\\.")) ++i;
    const char c = end[i];
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-' && c != '.')
      return false;
  }
  return !end.empty();
}

template <typename T, typename Read>
std::vector<PatternMember<T>> read_pattern(const JsonValue& config, const char* name, Read read) {
  std::vector<PatternMember<T>> members;
  const std::optional<JsonValue> pattern = config.find(name);
  if (!pattern || !is_used(*pattern)) return members;
  for (int64_t i = 0; i < pattern->size(); ++i) {
    const auto [key, value] = pattern->member(i);
    const bool whole = key.starts_with('^');
    const std::string_view end = key.substr(whole ? 1 : 0);
    if (!is_plain(end))
      value.reject(
          fmt::format("the key of {} is no plain name, and regular expressions are not "
                      "supported: write the modules' names out",
                      name));
    members.push_back({std::string(key), std::string(end), whole, read(value)});
  }
  return members;
}

// The ranks and alphas of single modules.
struct SizePatterns {
  std::vector<PatternMember<int64_t>> ranks;
  std::vector<PatternMember<float>> alphas;

  // As PEFT finds it today: in each pattern the first member that fits.
  LoraConfig::Own size_of(const std::string& path, const LoraConfig& lora) const {
    const auto first = [&](const auto& members, auto otherwise) {
      const auto found = std::ranges::find_if(members, [&](auto& one) { return one.fits(path); });
      return found == members.end() ? otherwise : found->value;
    };
    return {first(ranks, lora.rank), first(alphas, lora.alpha)};
  }
  // As PEFT 0.13 does: one key for both, the first with which the path ends, or the path itself.
  LoraConfig::Own earlier_size_of(const std::string& path, const LoraConfig& lora) const {
    std::string key = path;
    const auto look_in = [&](const auto& members) {
      const auto found = std::ranges::find_if(members, [&](auto& one) { return one.ends(path); });
      if (found != members.end()) key = found->key;
      return found != members.end();
    };
    if (!look_in(ranks)) look_in(alphas);
    const auto at_key = [&](const auto& members, auto otherwise) {
      const auto found = std::ranges::find_if(members, [&](auto& one) { return one.key == key; });
      return found == members.end() ? otherwise : found->value;
    };
    return {at_key(ranks, lora.rank), at_key(alphas, lora.alpha)};
  }
};

// Of the modules that have other sizes than the rest.
void take_own_sizes(const JsonValue& config, LoraConfig& lora) {
  const SizePatterns patterns{read_pattern<int64_t>(config, "rank_pattern", checked_rank),
                              read_pattern<float>(config, "alpha_pattern", checked_alpha)};
  for (const std::string& path : lora.modules) {
    const LoraConfig::Own size = patterns.size_of(path, lora);
    if (size != patterns.earlier_size_of(path, lora))
      config.reject(
          fmt::format("versions of PEFT differ in what rank_pattern and alpha_pattern "
                      "give {}: write whole paths as their keys, each module once",
                      path));
    if (size != LoraConfig::Own{lora.rank, lora.alpha}) lora.own.emplace(path, size);
  }
}

std::vector<std::string> read_saved_modules(const JsonValue& config) {
  std::vector<std::string> names;
  const std::optional<JsonValue> list = config.find("modules_to_save");
  if (!list || !is_used(*list)) return names;
  for (int64_t i = 0; i < list->size(); ++i) {
    names.emplace_back(list->at(i).as_string());
    if (names.back().empty()) list->at(i).reject("a module without a name");
  }
  if (config.get_bool("ensure_weight_tying", false))
    config.at("ensure_weight_tying")
        .reject(
            "modules_to_save whose weights stay tied are not supported; remove it if the model's "
            "embedding and head are not tied");
  return names;
}

// PEFT adapts nothing in a module that it saves, and passes over matrices for it.
void refuse_lora_in_saved_modules(const AdapterPart& part) {
  for (const std::string& path : part.lora.modules)
    CHECK(!is_in_modules(path + ".weight", part.saved_modules), ExitCode::kConfig,
          "{}: {} has LoRA in it and is in modules_to_save; leave one of the two out", part.weights,
          path);
}

AdapterPart read_part(const std::string& directory) {
  const JsonDocument document = JsonDocument::read_config(directory + std::string(kConfigFile));
  const JsonValue config = document.root();
  refuse_unsupported(config);
  AdapterPart part;
  part.directory = directory;
  part.weights = weights_of(directory);
  part.base_model = config.get_string("base_model_name_or_path", "");
  part.lora.rank = checked_rank(config.at("r"));
  part.lora.alpha = checked_alpha(config.at("lora_alpha"));
  part.lora.rank_stabilised = config.get_bool("use_rslora", false);
  part.lora.dora = config.get_bool("use_dora", false);
  part.saved_modules = read_saved_modules(config);
  part.lora.modules = modules_in(TensorDirectory::of_file(part.weights), part.lora.dora,
                                 !part.saved_modules.empty());
  refuse_lora_in_saved_modules(part);
  take_own_sizes(config, part.lora);
  return part;
}

std::string_view last_name(std::string_view path) { return path.substr(path.rfind('.') + 1); }

}  // namespace

bool is_adapter(const std::string& directory) {
  return has_config(directory) || has_config(directory + "/lang_decoder") ||
         has_config(directory + "/vis_encoder") ||
         (exists(directory + "/projection.safetensors") &&
          !exists(directory + "/lang_decoder/config.json"));
}

Adapter read_adapter(const std::string& directory) {
  Adapter adapter;
  adapter.directory = directory;
  CHECK(is_adapter(directory), ExitCode::kMissingInput,
        "{}: there is no adapter_config.json in it, nor in lang_decoder or vis_encoder below it{}",
        directory,
        exists(directory + "/lang_decoder/config.json")
            ? "; it holds a whole model: give its two directories as the models"
            : "");
  const std::string below = directory + "/lang_decoder";
  if (has_config(directory) || has_config(below))
    adapter.lang = read_part(has_config(directory) ? directory : below);
  if (has_config(directory + "/vis_encoder"))
    adapter.vision = read_part(directory + "/vis_encoder");
  CHECK(!adapter.vision || adapter.vision->saved_modules.empty(), ExitCode::kConfig,
        "{}/vis_encoder/adapter_config.json: modules_to_save of a vision encoder is not supported",
        directory);
  adapter.projection_file = if_there(directory + "/projection.safetensors");
  adapter.other_file = if_there(directory + "/other_weights.safetensors");
  return adapter;
}

std::string adapter_key(const Param& param) {
  if (!param.saved_as.empty()) return std::string(kKeyPrefix) + param.saved_as;
  const std::string_view path = std::string_view(param.name).substr(param.name.find('.') + 1);
  for (const auto& [ours, theirs] : kMatrices)
    if (path.ends_with(ours))
      return fmt::format("{}{}{}", kKeyPrefix, path.substr(0, path.size() - ours.size()), theirs);
  fail(ExitCode::kInternal, "{} is no matrix of LoRA", param.name);
}

namespace {

// PEFT adapts every module whose path ends with one of these: last names where they mean no more
// than the modules with LoRA, else whole paths. Of a vision encoder always these: what it is within
// (SigLIP's pooling head, CLIP's text model) has modules of the same last names.
std::set<std::string, std::less<>> target_modules(const ParamTable& table,
                                                  std::string_view prefix) {
  constexpr std::string_view kWeight = ".weight";
  std::set<std::string, std::less<>> adapted, names;
  const auto within = [&](const Param& param, std::string_view end) {
    return param.name.substr(prefix.size(), param.name.size() - prefix.size() - end.size());
  };
  for (const Param& param : table.params())
    if (param.name.starts_with(prefix) && param.name.ends_with(kRight)) {
      adapted.insert(within(param, kRight));
      names.emplace(last_name(*adapted.find(within(param, kRight))));
    }
  if (prefix == "vis_encoder.") return adapted;
  for (const Param& param : table.params()) {
    if (!param.name.starts_with(prefix) || !param.name.ends_with(kWeight)) continue;
    const std::string path = within(param, kWeight);
    if (names.contains(last_name(path)) && !adapted.contains(path)) return adapted;
  }
  return names;
}

void write_alpha(JsonWriter& writer, float alpha) {
  if (alpha == std::floor(alpha))
    writer.value(static_cast<int64_t>(alpha));
  else
    writer.value(static_cast<double>(alpha));
}

void write_names(JsonWriter& writer, const auto& names) {
  writer.begin_array();
  for (const std::string& name : names) writer.value(name);
  writer.end_array();
}

// By whole paths, which all versions of PEFT understand.
void write_own_sizes(JsonWriter& writer, const LoraConfig& lora) {
  writer.key("alpha_pattern").begin_object();
  for (const auto& [path, size] : lora.own)
    if (size.alpha != lora.alpha) write_alpha(writer.key(path), size.alpha);
  writer.end_object();
  writer.key("rank_pattern").begin_object();
  for (const auto& [path, size] : lora.own)
    if (size.rank != lora.rank) writer.key(path).value(size.rank);
  writer.end_object();
}

}  // namespace

// PEFT reads what is missing here as its default.
std::string adapter_config_text(const ParamTable& table, std::string_view prefix,
                                const LoraConfig& lora,
                                const std::vector<std::string>& saved_modules,
                                const std::string& base_model) {
  JsonWriter writer;
  writer.begin_object();
  write_own_sizes(writer, lora);
  writer.key("base_model_name_or_path").value(base_model);
  writer.key("bias").value("none");
  writer.key("fan_in_fan_out").value(false);
  writer.key("inference_mode").value(true);
  writer.key("init_lora_weights").value(true);
  write_alpha(writer.key("lora_alpha"), lora.alpha);
  writer.key("lora_dropout").value(0.0);
  writer.key("modules_to_save");
  if (saved_modules.empty())
    writer.null();
  else
    write_names(writer, saved_modules);
  writer.key("peft_type").value("LORA");
  writer.key("r").value(lora.rank);
  write_names(writer.key("target_modules"), target_modules(table, prefix));
  writer.key("task_type");
  if (prefix == "lang_decoder.")
    writer.value("CAUSAL_LM");
  else
    writer.null();
  writer.key("use_dora").value(lora.dora);
  writer.key("use_rslora").value(lora.rank_stabilised);
  writer.end_object();
  return writer.take();
}

}  // namespace facet
