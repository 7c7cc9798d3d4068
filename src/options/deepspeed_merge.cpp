// Merges a DeepSpeed configuration: over the defaults and --config, under the command line.
#include <fmt/format.h>

#include "base/check.h"
#include "options/deepspeed_config.h"
#include "options/option_table.h"

namespace facet {

namespace {

constexpr const char* kMicroBatch = "per_device_train_batch_size";
constexpr const char* kAccumulation = "gradient_accumulation_steps";

const OptionField& field_of(const std::string& name) {
  if (const OptionField* field = find_option(name); field != nullptr) return *field;
  fail(ExitCode::kInternal, "a DeepSpeed key sets --{}, which is no option", name);
}

class Merge {
 public:
  Merge(const DeepSpeedConfig& config, const std::set<std::string>& on_command_line,
        Options& options)
      : config_(config), on_command_line_(on_command_line), options_(options) {
    result_.mistakes = config.mistakes;
    result_.notes = config.notes;
  }

  DeepSpeedMerge take(int64_t ranks) {
    merge_batch(ranks);
    for (const DeepSpeedConfig::Setting& setting : config_.settings) merge(setting);
    for (const DeepSpeedConfig::Unbuilt& unbuilt : config_.unbuilt)
      if (unbuilt.option.empty() || value_of(unbuilt.option) == unbuilt.when)
        result_.unbuilt.push_back(unbuilt.choice);
    if (config_.hybrid_engine && options_.sample_prompts.empty())
      result_.notes.push_back(fmt::format(
          "{}: hybrid_engine.enabled changes nothing: no --sample_prompts are to be answered while "
          "training",
          config_.file));
    if (!config_.meaningless.empty())
      result_.notes.push_back(fmt::format("{}: read, and without a meaning in this program: {}",
                                          config_.file, fmt::join(config_.meaningless, ", ")));
    return std::move(result_);
  }

 private:
  std::string value_of(const std::string& option) const {
    return option_words(field_of(option), options_)[0];
  }
  bool given(const std::string& option) const { return on_command_line_.contains(option); }

  void note_overridden(const std::string& option, const std::string& key,
                       const std::string& value) {
    result_.notes.push_back(fmt::format("--{} {} of the command line beats {} = {} of {}", option,
                                        value_of(option), key, value, config_.file));
  }

  void set(const std::string& option, const std::string& key, const std::string& value) {
    const std::string wrong = set_option(field_of(option), {value}, options_);
    if (!wrong.empty())
      result_.mistakes.push_back(fmt::format("{}: {}: {}", config_.file, key, wrong));
  }

  void merge(const DeepSpeedConfig::Setting& setting) {
    if (!given(setting.option)) return set(setting.option, setting.key, setting.value);
    if (value_of(setting.option) != setting.value)
      note_overridden(setting.option, setting.key, setting.value);
  }

  // The command line's number in place of the file's.
  void take_from_command_line(const char* option, const char* key, int64_t value,
                              std::optional<int64_t>& number) {
    if (!given(option)) return;
    if (number && *number != value) note_overridden(option, key, fmt::format("{}", *number));
    number = value;
  }

  // Both factors on the command line settle the product; one of them must agree with the file.
  void merge_batch(int64_t ranks) {
    BatchSizes sizes = config_.batch;
    const std::optional<int64_t> of_file = sizes.train_batch_size;
    if (!of_file && !sizes.micro_batch_size && !sizes.accumulation_steps) return;
    take_from_command_line(kMicroBatch, "train_micro_batch_size_per_gpu",
                           options_.per_device_train_batch_size, sizes.micro_batch_size);
    take_from_command_line(kAccumulation, "gradient_accumulation_steps",
                           options_.gradient_accumulation_steps, sizes.accumulation_steps);
    if (given(kMicroBatch) && given(kAccumulation)) sizes.train_batch_size.reset();
    if (const std::string wrong = resolve_batch_sizes(sizes, ranks); !wrong.empty()) {
      result_.mistakes.push_back(fmt::format("{}: {}", config_.file, wrong));
      return;
    }
    set(kMicroBatch, "train_micro_batch_size_per_gpu", fmt::format("{}", *sizes.micro_batch_size));
    set(kAccumulation, "gradient_accumulation_steps", fmt::format("{}", *sizes.accumulation_steps));
    if (of_file && of_file != sizes.train_batch_size)
      result_.notes.push_back(
          fmt::format("a step has {} samples, as the command line says, not train_batch_size = {} "
                      "of {}",
                      *sizes.train_batch_size, *of_file, config_.file));
  }

  const DeepSpeedConfig& config_;
  const std::set<std::string>& on_command_line_;
  Options& options_;
  DeepSpeedMerge result_;
};

}  // namespace

DeepSpeedMerge merge_deepspeed_config(const DeepSpeedConfig& config,
                                      const std::set<std::string>& on_command_line, int64_t ranks,
                                      Options& options) {
  return Merge(config, on_command_line, options).take(ranks);
}

}  // namespace facet
