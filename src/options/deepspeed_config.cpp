#include "options/deepspeed_config.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "base/edit_distance.h"
#include "io/json.h"

namespace facet {

namespace {

enum class Type : uint8_t { kBool, kInteger, kNumber, kString };

enum class Meaning : uint8_t {
  kOption,   // sets the option `text`
  kFixed,    // only the value `text` works (so far)
  kNothing,  // DeepSpeed's own machinery: any value is accepted
  kBatch,    // one of the three batch numbers
  kBesides,  // read together with its neighbours
};

struct Key {
  const char* path;
  Type type;
  Meaning meaning;
  const char* text = "";
};

// Here gradients are always in contiguous buffers and never reduced to one owner, and what is
// gathered is a unit of the model: many of ZeRO's settings therefore have no effect.
constexpr Key kKeys[] = {
    {"train_batch_size", Type::kInteger, Meaning::kBatch},
    {"train_micro_batch_size_per_gpu", Type::kInteger, Meaning::kBatch},
    {"gradient_accumulation_steps", Type::kInteger, Meaning::kBatch},
    {"steps_per_print", Type::kInteger, Meaning::kOption, "steps_per_print"},
    {"gradient_clipping", Type::kNumber, Meaning::kOption, "gradient_clipping"},
    {"prescale_gradients", Type::kBool, Meaning::kBesides},
    {"communication_data_type", Type::kString, Meaning::kOption, "communication_data_type"},
    {"wall_clock_breakdown", Type::kBool, Meaning::kOption, "wall_clock_breakdown"},
    {"zero_allow_untested_optimizer", Type::kBool, Meaning::kNothing},
    {"zero_force_ds_cpu_optimizer", Type::kBool, Meaning::kNothing},

    {"zero_optimization.stage", Type::kInteger, Meaning::kOption, "zero_stage"},
    {"zero_optimization.stage3_param_persistence_threshold", Type::kInteger, Meaning::kOption,
     "stage3_param_persistence_threshold"},
    {"zero_optimization.stage3_max_live_parameters", Type::kInteger, Meaning::kOption,
     "stage3_max_live_parameters"},
    {"zero_optimization.stage3_prefetch_bucket_size", Type::kInteger, Meaning::kOption,
     "stage3_prefetch_bucket_size"},
    {"zero_optimization.stage3_max_reuse_distance", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.stage3_gather_16bit_weights_on_model_save", Type::kBool, Meaning::kNothing},
    {"zero_optimization.reduce_bucket_size", Type::kInteger, Meaning::kOption,
     "reduce_bucket_size"},
    {"zero_optimization.overlap_comm", Type::kBool, Meaning::kOption, "overlap_comm"},
    {"zero_optimization.allgather_bucket_size", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.allgather_partitions", Type::kBool, Meaning::kNothing},
    {"zero_optimization.contiguous_gradients", Type::kBool, Meaning::kNothing},
    {"zero_optimization.reduce_scatter", Type::kBool, Meaning::kNothing},
    {"zero_optimization.round_robin_gradients", Type::kBool, Meaning::kNothing},
    {"zero_optimization.sub_group_size", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.ignore_unused_parameters", Type::kBool, Meaning::kNothing},
    {"zero_optimization.load_from_fp32_weights", Type::kBool, Meaning::kNothing},
    {"zero_optimization.memory_efficient_linear", Type::kBool, Meaning::kNothing},
    {"zero_optimization.offload_param.device", Type::kString, Meaning::kOption, "offload_param"},
    {"zero_optimization.offload_param.pin_memory", Type::kBool, Meaning::kNothing},
    {"zero_optimization.offload_param.buffer_count", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.offload_param.buffer_size", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.offload_param.max_in_cpu", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.offload_optimizer.device", Type::kString, Meaning::kOption,
     "offload_optimizer"},
    {"zero_optimization.offload_optimizer.pin_memory", Type::kBool, Meaning::kNothing},
    {"zero_optimization.offload_optimizer.buffer_count", Type::kInteger, Meaning::kNothing},
    {"zero_optimization.offload_optimizer.pipeline_read", Type::kBool, Meaning::kNothing},
    {"zero_optimization.offload_optimizer.pipeline_write", Type::kBool, Meaning::kNothing},
    {"zero_optimization.offload_optimizer.fast_init", Type::kBool, Meaning::kNothing},

    {"fp16.enabled", Type::kBool, Meaning::kBesides},
    {"fp16.auto_cast", Type::kBool, Meaning::kNothing},
    {"fp16.loss_scale", Type::kNumber, Meaning::kOption, "loss_scale"},
    {"fp16.initial_scale_power", Type::kInteger, Meaning::kOption, "initial_scale_power"},
    {"fp16.loss_scale_window", Type::kInteger, Meaning::kOption, "loss_scale_window"},
    {"fp16.hysteresis", Type::kInteger, Meaning::kOption, "hysteresis"},
    {"fp16.consecutive_hysteresis", Type::kBool, Meaning::kFixed, "false"},
    {"fp16.min_loss_scale", Type::kNumber, Meaning::kOption, "min_loss_scale"},
    {"fp16.fp16_master_weights_and_grads", Type::kBool, Meaning::kFixed, "false"},
    {"bf16.enabled", Type::kBool, Meaning::kBesides},
    {"bf16.immediate_grad_update", Type::kBool, Meaning::kNothing},

    {"hybrid_engine.enabled", Type::kBool, Meaning::kBesides},
    {"hybrid_engine.max_out_tokens", Type::kInteger, Meaning::kOption, "max_out_tokens"},
    {"hybrid_engine.inference_tp_size", Type::kInteger, Meaning::kOption, "inference_tp_size"},
    {"hybrid_engine.release_inference_cache", Type::kBool, Meaning::kOption,
     "release_inference_cache"},
    {"hybrid_engine.pin_parameters", Type::kBool, Meaning::kOption, "pin_parameters"},
    {"hybrid_engine.tp_gather_partition_size", Type::kInteger, Meaning::kOption,
     "tp_gather_partition_size"},

    {"tensorboard.enabled", Type::kBool, Meaning::kOption, "enable_tensorboard"},
    {"tensorboard.output_path", Type::kString, Meaning::kOption, "tensorboard_path"},
    {"tensorboard.job_name", Type::kString, Meaning::kOption, "tensorboard_job_name"},
};

// Blocks of DeepSpeed whose content is given by options here.
constexpr std::pair<const char*, const char*> kGivenByOptions[] = {
    {"optimizer", "--learning_rate, --weight_decay, --adam_betas and --adam_eps"},
    {"scheduler", "--lr_scheduler_type and --num_warmup_steps"},
};

const Key* find_key(const std::string& path) {
  for (const Key& key : kKeys)
    if (path == key.path) return &key;
  return nullptr;
}

// A block that holds known keys.
bool is_section(const std::string& path) {
  for (const Key& key : kKeys)
    if (const std::string_view known = key.path;
        known.size() > path.size() && known[path.size()] == '.' && known.starts_with(path))
      return true;
  return false;
}

std::string_view last_name(std::string_view path) { return path.substr(path.rfind('.') + 1); }

// The known key or block that was probably meant, at any place: names are compared first, then
// places.
std::string nearest_path(const std::string& path) {
  std::string nearest;
  size_t least = std::numeric_limits<size_t>::max();
  const auto consider = [&](std::string_view known) {
    const size_t name = edit_distance(last_name(path), last_name(known));
    const size_t distance = 1000 * name + edit_distance(path, known);
    if (distance < least) {
      least = distance;
      nearest = known;
    }
  };
  for (const Key& key : kKeys) {
    const std::string_view known = key.path;
    consider(known);
    for (size_t dot = known.find('.'); dot != known.npos; dot = known.find('.', dot + 1))
      consider(known.substr(0, dot));
  }
  return nearest;
}

// DeepSpeed's files write whole numbers as 5e8 too.
int64_t whole_number(const JsonValue& value) {
  if (value.is_integer()) return value.as_int();
  const double number = value.as_double();
  constexpr double kExact = 9007199254740992;  // above it a double skips whole numbers
  if (number != std::floor(number) || std::abs(number) > kExact)
    value.reject(fmt::format("{} is not a whole number", number));
  return static_cast<int64_t>(number);
}

// The value as the word that an option would take; throws the document's error for another type.
std::string word_of(const JsonValue& value, Type type) {
  switch (type) {
    case Type::kBool: return value.as_bool() ? "true" : "false";
    case Type::kString: return std::string(value.as_string());
    case Type::kNumber: return fmt::format("{}", value.as_double());
    case Type::kInteger: break;
  }
  return fmt::format("{}", whole_number(value));
}

// An engine that is off says nothing of how the model is to answer.
bool has_hybrid_engine(const JsonValue& root) {
  const std::optional<JsonValue> engine = root.find("hybrid_engine");
  if (!engine || !engine->is_object()) return false;
  const std::optional<JsonValue> enabled = engine->find("enabled");
  return enabled && enabled->kind() == JsonKind::kBool && enabled->as_bool();
}

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) { config_.file = file; }

  DeepSpeedConfig read() {
    try {
      const JsonDocument document = JsonDocument::read_config(file_);
      if (!document.root().is_object())
        document.root().reject("expected an object with DeepSpeed's keys");
      config_.hybrid_engine = has_hybrid_engine(document.root());
      read_section(document.root(), "");
    } catch (const Error& error) {
      config_.mistakes.push_back(error.what());
    }
    settle_precision();
    return std::move(config_);
  }

 private:
  void read_section(const JsonValue& section, const std::string& prefix) {
    for (int64_t i = 0; i < section.size(); ++i) {
      const auto [name, value] = section.member(i);
      read_member(prefix + std::string(name), value);
    }
  }

  void read_member(const std::string& path, const JsonValue& value) {
    try {
      if (const Key* key = find_key(path); key != nullptr) return read_key(*key, value);
      if (!is_section(path)) return refuse(path);
      if (!value.is_object()) value.reject("expected an object");
      read_section(value, path + ".");
    } catch (const Error& error) {  // of this key alone: the others are still read
      config_.mistakes.push_back(error.what());
    }
  }

  void refuse(const std::string& path) {
    for (const auto& [block, options] : kGivenByOptions)
      if (path == block) {
        config_.mistakes.push_back(fmt::format("{}: {} is given by {}", file_, path, options));
        return;
      }
    constexpr size_t kSuggested = 20;  // as many are shown
    config_.mistakes.push_back(config_.mistakes.size() < kSuggested
                                   ? fmt::format("{}: unknown key {:.100}; did you mean {}?", file_,
                                                 path, nearest_path(path))
                                   : "unknown key");
  }

  void read_key(const Key& key, const JsonValue& value) {
    const std::string word = word_of(value, key.type);
    if (!config_.hybrid_engine && std::string_view(key.path).starts_with("hybrid_engine."))
      return config_.meaningless.push_back(key.path);
    switch (key.meaning) {
      case Meaning::kOption: config_.settings.push_back({key.path, word, key.text}); return;
      case Meaning::kNothing: config_.meaningless.push_back(key.path); return;
      case Meaning::kBatch: batch_number(key.path) = whole_number(value); return;
      case Meaning::kFixed:
        if (word != key.text) add_unbuilt(key, word);
        return;
      case Meaning::kBesides: read_besides(key.path, word); return;
    }
  }

  std::optional<int64_t>& batch_number(std::string_view path) {
    if (path == "train_batch_size") return config_.batch.train_batch_size;
    return path == "gradient_accumulation_steps" ? config_.batch.accumulation_steps
                                                 : config_.batch.micro_batch_size;
  }

  void add_unbuilt(const Key& key, const std::string& word) {
    DeepSpeedConfig::Unbuilt unbuilt{
        fmt::format("{}: {} = {} (here it is {})", file_, key.path, word, key.text), "", ""};
    if (std::string_view(key.path).starts_with("fp16.")) {
      unbuilt.option = "precision";
      unbuilt.when = "fp16";
    }
    config_.unbuilt.push_back(std::move(unbuilt));
  }

  void read_besides(std::string_view path, const std::string& word) {
    if (path == "fp16.enabled") {
      fp16_ = word == "true";
    } else if (path == "bf16.enabled") {
      bf16_ = word == "true";
    } else if (path == "prescale_gradients" && word == "true") {
      config_.notes.push_back(
          fmt::format("{}: prescale_gradients has no effect: gradients are summed over the ranks "
                      "in fp32, never averaged",
                      file_));
    }
  }

  // fp16.enabled and bf16.enabled are one choice of three; both off is fp32.
  void settle_precision() {
    if (!fp16_ && !bf16_) return;
    if (fp16_.value_or(false) && bf16_.value_or(false)) {
      config_.mistakes.push_back(
          fmt::format("{}: fp16.enabled and bf16.enabled are both true; choose one", file_));
    } else if (fp16_.value_or(false)) {
      config_.settings.push_back({"fp16.enabled", "fp16", "precision"});
    } else if (bf16_.value_or(false)) {
      config_.settings.push_back({"bf16.enabled", "bf16", "precision"});
    } else {
      config_.settings.push_back({fp16_ ? "fp16.enabled" : "bf16.enabled", "fp32", "precision"});
    }
  }

  std::string file_;
  DeepSpeedConfig config_;
  std::optional<bool> fp16_, bf16_;
};

}  // namespace

DeepSpeedConfig read_deepspeed_config(const std::string& path) { return Reader(path).read(); }

}  // namespace facet
