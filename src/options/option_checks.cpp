// Checks of all options together: choices that this version does not have, and choices that
// contradict each other.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "data/dataset_choice.h"
#include "job/fault_injection.h"
#include "options/hub_cache.h"
#include "options/option_table.h"

namespace facet {

namespace {

class Findings {
 public:
  void unless(bool fine, std::string wrong) {
    if (!fine) list_.push_back(std::move(wrong));
  }
  std::vector<std::string> take() { return std::move(list_); }

 private:
  std::vector<std::string> list_;
};

bool needs_data_path(const Options& o) {
  if (!o.data_config.empty()) return false;
  return std::any_of(o.dataset_names.begin(), o.dataset_names.end(),
                     [](const std::string& word) { return own_kind_of(word).empty(); });
}

bool is_all_or_count(const std::string& word) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), count);
  return word == "all" || (error == std::errc() && end == word.data() + word.size() && count > 0);
}

void check_data(const Options& o, Findings& found) {
  const size_t sets = o.dataset_names.size();
  found.unless(std::set<std::string>(o.dataset_names.begin(), o.dataset_names.end()).size() == sets,
               "--dataset_names names a data set twice");
  for (const std::string& word : o.dataset_names)  // options.cfg separates values by blanks
    found.unless(word.find_first_of(" \t") == word.npos,
                 fmt::format("--dataset_names '{}': the path must have no blanks in it", word));
  found.unless(
      o.dataset_samples.size() == 1 || o.dataset_samples.size() == sets,
      fmt::format("--dataset_samples has {} values for {} data sets; give one, or one each",
                  o.dataset_samples.size(), sets));
  found.unless(
      o.dataset_concatenate_samples.size() == 1 || o.dataset_concatenate_samples.size() == sets,
      fmt::format("--dataset_concatenate_samples has {} values for {} data sets; give one, or one "
                  "each",
                  o.dataset_concatenate_samples.size(), sets));
  found.unless(o.dataset_weights.empty() || o.dataset_weights.size() == sets,
               fmt::format("--dataset_weights has {} values for {} data sets; give one each",
                           o.dataset_weights.size(), sets));
  const Options standard;
  found.unless(o.data_config.empty() ||
                   (o.dataset_names == standard.dataset_names &&
                    o.dataset_samples == standard.dataset_samples && o.dataset_weights.empty() &&
                    o.dataset_concatenate_samples == standard.dataset_concatenate_samples),
               "--data_config says what --dataset_names, --dataset_samples, --dataset_weights and "
               "--dataset_concatenate_samples say; leave them out");
  for (const std::string& word : o.dataset_samples)
    found.unless(is_all_or_count(word),
                 fmt::format("--dataset_samples: '{}' is neither all nor a count above 0", word));
}

std::string error_in_injection(const std::string& text) {
  try {
    FaultInjection::parse(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What only a GPU computes, or keeps elsewhere.
void check_gpu_choices(const Options& o, Findings& found) {
  const bool by_cudnn = o.attention == "cudnn";
  found.unless(!by_cudnn || o.on_gpu(),
               "--attention cudnn computes on a GPU: give --device cuda, or leave it out");
  found.unless(!by_cudnn || o.precision != "fp32",
               "--attention cudnn computes in bf16 and fp16: give --precision, or leave it out");
  found.unless(!by_cudnn || !o.enable_mmca_attention,
               "--attention cudnn cannot attend to images and text apart, as "
               "--enable_mmca_attention does; leave one out");
  const bool is_joint = o.attention_backward == "joint";
  found.unless(!is_joint || o.on_gpu(),
               "--attention_backward joint computes on a GPU: give --device cuda, or leave it out");
  found.unless(!is_joint || o.precision != "fp32",
               "--attention_backward joint computes in bf16 and fp16: give --precision, or leave "
               "it out");
  found.unless(!is_joint || !by_cudnn,
               "--attention_backward joint is a kernel of facet's, and --attention cudnn takes "
               "cuDNN's; leave one out");
  found.unless(
      !o.on_gpu() || o.offload_param == "none" ||
          (o.zero_stage == 3 && o.offload_optimizer == "cpu"),
      "--offload_param cpu keeps the slices of --zero_stage 3 where --offload_optimizer cpu "
      "steps on them: give both, or leave it out");
  const bool fuses = o.lora_products != "separate";
  found.unless(!fuses || o.on_gpu(),
               fmt::format("--lora_products {} computes on a GPU: give --device cuda, or leave it "
                           "out",
                           o.lora_products));
  found.unless(!fuses || o.precision != "fp32",
               fmt::format("--lora_products {} computes in bf16 and fp16: give --precision, or "
                           "leave it out",
                           o.lora_products));
  for (const auto& [name, rank] :
       {std::pair("lang", o.lang_lora_dim), std::pair("vis", o.vis_lora_dim)})
    found.unless(!fuses || rank % 8 == 0,
                 fmt::format("--lora_products {} takes ranks that are multiples of 8, not "
                             "--{}_lora_dim {}",
                             o.lora_products, name, rank));
}

// Where micro-batches come from, and what is done with them.
void check_batches(const Options& o, Findings& found) {
  found.unless(o.replay.empty() || o.dump_batches == 0,
               "--dump_batches would record what --replay plays; leave one out");
  found.unless(
      o.feature_cache.empty() || (o.replay.empty() && (o.dump_batches == 0 || o.replay_step > 0)),
      "--feature_cache finds images by their files and leaves out their pixels, which "
      "--replay and --dump_batches are about; leave one out");
  found.unless(
      o.replay.empty() || o.tokens_per_micro_batch == 0,
      "--tokens_per_micro_batch makes micro-batches, and those of --replay are made; leave "
      "one out");
  found.unless(o.tokens_per_micro_batch == 0 || (o.loss_average == "global" && !o.visualchat()),
               "--tokens_per_micro_batch fills micro-batches with unlike numbers of samples, which "
               "a mean of micro-batch means would weigh unlike; take --loss_average global without "
               "--compat visualchat, or leave it out");
  found.unless(
      o.replay.empty() || o.data_debug_path.empty(),
      "--data_debug_path shows samples of data sets, and --replay has none; leave one out");
}

void check_optimizer(const Options& o, Findings& found) {
  found.unless(o.num_warmup_steps <= 1 || o.num_warmup_steps == std::floor(o.num_warmup_steps),
               fmt::format("--num_warmup_steps {} is neither a share (up to 1) nor a whole number "
                           "of steps",
                           o.num_warmup_steps));
  found.unless(o.adam_betas.size() == 2,
               fmt::format("--adam_betas takes two values, not {}", o.adam_betas.size()));
  for (const double beta : o.adam_betas)
    found.unless(beta < 1, fmt::format("--adam_betas: {} is not below 1", beta));
  const bool no_moving_scale = o.precision != "fp16" || o.loss_scale > 0;
  found.unless(no_moving_scale ||
                   o.min_loss_scale <= std::pow(2.0, static_cast<double>(o.initial_scale_power)),
               fmt::format("--min_loss_scale {} is more than --initial_scale_power {} begins with",
                           o.min_loss_scale, o.initial_scale_power));
  found.unless(no_moving_scale || o.min_loss_scale > 0,
               "--min_loss_scale 0 would end in gradients of 0");
}

void check_training(const Options& o, Findings& found) {
  const std::string injection = error_in_injection(o.inject);
  found.unless(injection.empty(), injection);
  check_gpu_choices(o, found);
  found.unless(!o.async_checkpoint || o.checkpoint_io == "posix",
               "--async_checkpoint writes without MPI and HDF5: only --checkpoint_io posix can");
  if (o.only_optimize_lora) {
    found.unless(o.unfreeze.empty(),
                 "--only_optimize_lora freezes what --unfreeze would train; leave one out");
    found.unless(
        o.lang_lora_dim > 0 || o.vis_lora_dim > 0 || !o.adapter.empty(),
        "--only_optimize_lora needs --lang_lora_dim or --vis_lora_dim above 0, or --adapter");
  }
  check_batches(o, found);
  check_optimizer(o, found);
  found.unless(o.data_train_split_ratio > 0,
               "--data_train_split_ratio 0 leaves nothing to train on");
}

void check_output(const Options& o, Findings& found) {
  found.unless(!o.output_dir.empty() || o.dry_run,
               "--output_dir is missing: directory for logs, checkpoints and models");
  found.unless(o.export_kind != "none" || !o.keep_best,
               "--keep_best exports the best model, and --export none exports nothing; leave one "
               "out");
  found.unless(o.replay_step == 0 || !o.dry_run,
               "--replay_step computes, and --dry_run does not; leave one out");
  found.unless(!o.check_all_samples || o.dry_run,
               "--check_all_samples belongs to --dry_run; add it, or leave this out");
  found.unless(!o.check_all_samples || o.replay.empty(),
               "--check_all_samples reads data sets, and --replay has none; leave one out");
}

// Of answers, in a run and in facet generate.
void check_answers(const Options& o, Findings& found) {
  found.unless(o.temperature > 0 || (o.top_k == 0 && o.top_p == 1),
               "--top_k and --top_p choose among draws; without --temperature above 0 nothing is "
               "drawn");
  found.unless(o.compat_tool == "auto" || o.visualchat(),
               "--compat_tool chooses between tools of DeepSpeed-VisualChat; add --compat "
               "visualchat, or leave it out");
  found.unless(o.top_p > 0, "--top_p 0 leaves no token to draw");
  found.unless(std::none_of(o.stop_strings.begin(), o.stop_strings.end(),
                            [](const std::string& text) { return text.empty(); }),
               "--stop_strings: an empty text would end every answer before it begins");
}

// Of ranks that answer together.
void check_groups(Command command, const Options& o, int64_t ranks, Findings& found) {
  const int64_t group = o.inference_tp_size;
  found.unless(
      group == 1 || !o.visualchat(),
      "--inference_tp_size: not with --compat visualchat, whose answers take the decoder's "
      "own table of tokens, which the ranks share otherwise; leave one out");
  if (command == Command::kChat)
    return found.unless(
        ranks == group,
        fmt::format("--inference_tp_size {} is not the number of ranks, {}: all ranks of facet "
                    "chat hold the model together; give --inference_tp_size {}, or start {} by "
                    "mpirun -n {} or srun --pty -n {}",
                    group, ranks, ranks, group, group, group));
  found.unless(ranks % group == 0,
               fmt::format("--inference_tp_size {}: {} ranks are no groups of {}; start a multiple "
                           "of it",
                           group, ranks, group));
}

void check_generation(const Options& o, Findings& found) {
  check_answers(o, found);
  found.unless(o.input.empty() || o.input != o.output, "--output would overwrite --input");
  found.unless(o.checkpoint_path.empty() || !o.checkpoint_names.empty(),
               "--checkpoint_path holds the models of --checkpoint_names; give these, too");
  found.unless(std::set(o.checkpoint_names.begin(), o.checkpoint_names.end()).size() ==
                   o.checkpoint_names.size(),
               "--checkpoint_names: a name stands there twice");
  found.unless(o.checkpoint_names.empty() || (o.adapter.empty() && o.projection.empty()),
               "--checkpoint_names say what the models are made of; leave --adapter and "
               "--projection out");
  found.unless(o.temperature > 0 || o.num_answers == 1,
               "--num_answers above 1 needs draws to differ by; without --temperature above 0 "
               "nothing is drawn");
  const bool lines = o.output.ends_with(".jsonl");
  found.unless(lines || !o.logprobs, "--logprobs has no column in CSV: name --output *.jsonl");
  found.unless(!lines || o.csv == "facet", "--csv is a form of CSV, and --output names JSON Lines");
  found.unless(!o.score || (o.temperature == 0 && o.repetition_penalty == 1 && !o.logprobs &&
                            o.stop_strings.empty()),
               "--score draws no token: it takes no --temperature, --repetition_penalty, "
               "--stop_strings, --logprobs");
}

// "--offload_param cpu": of the two options those that ask for something.
std::vector<std::string> offload_choices(const Options& o) {
  std::vector<std::string> choices;
  if (o.offload_optimizer == "cpu") choices.emplace_back("--offload_optimizer cpu");
  if (o.offload_param == "cpu") choices.emplace_back("--offload_param cpu");
  return choices;
}

bool belongs_to_samples(std::string_view name) {
  constexpr std::array kNames = {"sample_interval",
                                 "max_out_tokens",
                                 "pin_parameters",
                                 "tp_gather_partition_size",
                                 "release_inference_cache",
                                 "inference_tp_size",
                                 "max_new_tokens",
                                 "temperature",
                                 "top_k",
                                 "top_p",
                                 "repetition_penalty",
                                 "stop_strings"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// "" for an option that has an effect.
std::string why_without_effect(std::string_view name, const Options& o) {
  const bool moves_scale = name == "initial_scale_power" || name == "loss_scale_window" ||
                           name == "hysteresis" || name == "min_loss_scale";
  if (o.precision != "fp16" && (moves_scale || name == "loss_scale"))
    return "only --precision fp16 scales the loss";
  if (o.loss_scale > 0 && moves_scale) return "--loss_scale fixes the scale";
  if (o.zero_stage < 3 && name.starts_with("stage3_")) return "it belongs to --zero_stage 3";
  if (!o.on_gpu() && (name == "device_collectives" || name == "product_algorithms"))
    return "it belongs to --device cuda";
  if (name == "lora_products" && o.lang_lora_dim == 0 && o.vis_lora_dim == 0 && o.adapter.empty())
    return "it belongs to --lang_lora_dim, --vis_lora_dim and --adapter";
  if (!o.on_gpu() && name == "vision_image_by_image") return "with --device cpu it is always so";
  if (o.sample_prompts.empty() && belongs_to_samples(name)) return "it belongs to --sample_prompts";
  const bool gathers = name == "pin_parameters" || name == "tp_gather_partition_size";
  if (o.zero_stage < 3 && gathers) return "it belongs to --zero_stage 3";
  if (o.inference_tp_size > 1 && gathers)
    return "with --inference_tp_size each rank keeps its part of all parameters";
  if (o.pin_parameters && name == "tp_gather_partition_size")
    return "--pin_parameters gathers everything at once";
  if (!o.enable_tensorboard && name.starts_with("tensorboard_"))
    return "it belongs to --enable_tensorboard";
  if (o.adapter.empty()) {  // which may bring LoRA
    if (o.lang_lora_dim == 0 && (name == "lang_lora_rslora" || name == "lang_lora_dora"))
      return "it belongs to --lang_lora_dim";
    if (o.vis_lora_dim == 0 && (name == "vis_lora_rslora" || name == "vis_lora_dora"))
      return "it belongs to --vis_lora_dim";
    if (o.lang_lora_dim == 0 && o.vis_lora_dim == 0 && name == "lora_plus_ratio")
      return "it belongs to --lang_lora_dim and --vis_lora_dim";
  }
  if (o.feature_cache.empty() && name == "feature_cache_gib")
    return "it belongs to --feature_cache";
  if (o.zero_stage >= 2 && name == "reduce_every_micro_batch")
    return "--zero_stage 2 and 3 do so anyway";
  return "";
}

}  // namespace

std::vector<std::string> choices_without_effect(Command command, const Options& options) {
  std::vector<std::string> lines;
  if (command != Command::kTrain && command != Command::kPlan) return lines;
  if (!options.on_gpu())
    for (const std::string& choice : offload_choices(options))
      lines.push_back(choice + " has no effect: with --device cpu everything is there already");
  for (const OptionField& field : option_table()) {
    const std::string reason = why_without_effect(field.name, options);
    if (!reason.empty() && option_words(field, options) != option_words(field, Options{}))
      lines.push_back(fmt::format("--{} has no effect: {}", field.name, reason));
  }
  return lines;
}

std::vector<std::string> contradictions(Command command, const Options& options, int64_t ranks) {
  Findings found;
  found.unless(
      options.chat_template == "original" || !options.visualchat(),
      "--chat_template " + options.chat_template +
          " is not the form of DeepSpeed-VisualChat; leave out --compat visualchat or take "
          "--chat_template original");
  if (command == Command::kExport)
    found.unless(options.export_kind != "none", "--export none leaves nothing to do");
  const bool answers = command == Command::kGenerate || command == Command::kChat;
  if (!answers && command != Command::kBandwidth) check_data(options, found);
  if (command == Command::kTrain || takes_options_of_training(command))
    check_training(options, found);
  if (command == Command::kCacheFeatures)
    found.unless(!options.feature_cache.empty(),
                 "--feature_cache is missing: the directory to fill");
  if (command == Command::kCacheFeatures)
    found.unless(!options.dry_run,
                 "cache-features computes, and --dry_run does not; leave it out, or ask facet plan "
                 "what the features take");
  if (command == Command::kTrain) check_output(options, found);
  if (!options.sample_prompts.empty()) check_answers(options, found);
  if (command == Command::kPlan)
    found.unless(options.average_images == 0 || options.average_text_tokens > 0,
                 "--average_images says little without --average_text_tokens");
  if (command == Command::kDataStats)
    found.unless(options.replay.empty(),
                 "data-stats reads data sets, and --replay has none; leave it out");
  if (answers) check_generation(options, found);
  if (command == Command::kChat)
    found.unless(options.checkpoint_names.size() <= 1,
                 "--checkpoint_names: facet chat talks with one model; name one");
  const bool asks =
      (command == Command::kTrain || command == Command::kPlan) && !options.sample_prompts.empty();
  if (answers || asks)
    check_groups(command, options, command == Command::kPlan ? options.ranks : ranks, found);
  return found.take();
}

void check_paths(Command command, const Options& options) {
  namespace fs = std::filesystem;
  std::string missing;
  for (const OptionField& field : option_table()) {
    if (!field.known_to(command) || !field.must_exist) continue;
    const bool no_data = command == Command::kPlan ||
                         (!options.replay.empty() && std::string(field.name) != "replay");
    const bool unused = (no_data && field.group == OptionGroup::kData) ||
                        (std::string(field.name) == "data_path" && !needs_data_path(options));
    const std::string path = option_words(field, options)[0];
    if (unused || path.empty()) continue;
    std::error_code error;
    const bool directory = field.path == OptionField::Path::kDirectory;
    if (directory ? fs::is_directory(path, error) : fs::is_regular_file(path, error)) continue;
    const bool there = fs::exists(path, error);
    missing += fmt::format("\n  --{} {}: {} {}", field.name, path,
                           there ? "not a regular" : "no such", directory ? "directory" : "file");
    if (field.group == OptionGroup::kModel && directory && !there)
      if (const std::optional<HubLookup> hub = look_up_in_hub_cache(path))
        missing += "; " + hub->failure;
  }
  CHECK(missing.empty(), ExitCode::kMissingInput, "what the command line names is not there:{}",
        missing);
}

}  // namespace facet
