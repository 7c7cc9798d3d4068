#include "train/plan.h"

#include "base/check.h"
#include "base/log.h"
#include "train/feature_cache_setup.h"
#include "train/model_setup.h"
#include "train/run_setup.h"

namespace facet {

namespace {

void count_elements(const ParamTable& table, RunPlan& plan) {
  for (const Param& param : table.params()) {
    if (!param.trained) {
      plan.frozen += param.numel();
    } else if (param.role == ParamRole::kLora) {
      plan.lora += param.numel();
    } else if (param.name.starts_with("lang_embed.")) {
      plan.lang_embed += param.numel();
    } else if (param.name.starts_with("projection.")) {
      plan.projection += param.numel();
    } else {
      plan.other += param.numel();
    }
  }
}

void add_notes(const Options& options, const ModelSetup& model, RunPlan& plan) {
  if (model.tokenizer == nullptr)
    plan.notes.push_back(fmt::format(
        "{} has no tokenizer: V = {} is the model's vocab_size and the tokens added here",
        options.lm_model_name_or_path, model.config.lm.vocab_size));
  if (!options.sample_prompts.empty() && model.tokenizer == nullptr)
    plan.notes.push_back("--sample_prompts is not counted: there is no tokenizer to read it with");
  if (!options.replay.empty())
    plan.notes.push_back("--replay is not read: batches are planned as long as the options allow");
  if (!options.feature_cache.empty() && trains_vision(model.table))
    plan.notes.push_back("--feature_cache will be left out: the vision encoder is trained");
}

// "39,976,960"
std::string grouped(int64_t number) {
  const std::string digits = fmt::format("{}", number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

RunPlan plan_run(const Options& options, const OpenQuestions& open_questions) {
  const std::unique_ptr<ModelSetup> model = declare_model(options, MissingTokenizer::kAssume);
  choose_trained(options, model->table);
  RunPlan plan;
  count_elements(model->table, plan);
  const auto ranks = static_cast<int>(options.ranks);
  Engine::lay_out(model->table, ranks, engine_options(options), ParamTable::Memory::kMeasureOnly);
  const bool asks = !options.sample_prompts.empty() && model->tokenizer != nullptr;
  // Of the ranks that answer together the last one has the largest part.
  const std::unique_ptr<Questions> questions =
      asks ? questions_of(options, *model, ranks - 1, open_questions) : nullptr;
  plan.costs = plan_costs(options, *model, nullptr, ranks, questions.get());
  plan.operations = plan_operations(options, *model);
  plan.checkpoint_bytes = plan.trained() * 3 * static_cast<int64_t>(sizeof(float));
  plan.disk = plan_disk(options, plan_exports(options, model->table), plan.checkpoint_bytes,
                        planned_export_bytes(options, *model));
  plan.features = feature_plan_text(options, *model);
  if (!options.measured.empty()) plan.speed = measured_speed(options);
  add_notes(options, *model, plan);
  return plan;
}

int64_t RunPlan::tokens(const Options& options) const {
  return operations.counted.length * options.samples_of_rank() * options.ranks;
}

double RunPlan::seconds() const {
  return static_cast<double>(operations.flops) / speed->flops_per_second;
}

namespace {

std::string speed_text(const RunPlan& plan, const Options& options) {
  if (!plan.speed) return "";
  const auto tokens = static_cast<double>(plan.tokens(options));
  return fmt::format(
      "\n{}\nat that speed a step takes {:.4g} s ({:.4g} TFLOP / {:.4g} TFLOP/s): {:.4g} tokens/s "
      "on all ranks, {} tokens a step",
      plan.speed->text, plan.seconds(), static_cast<double>(plan.operations.flops) * 1e-12,
      plan.speed->flops_per_second * 1e-12, tokens / plan.seconds(), grouped(plan.tokens(options)));
}

}  // namespace

std::string plan_text(const RunPlan& plan, const Options& options) {
  std::string text;
  for (const std::string& note : plan.notes) text += note + "\n";
  text += fmt::format(
      "trained: {} elements (LoRA {}, lang_embed {}, projection {}, others {}); frozen: {}\n",
      grouped(plan.trained()), grouped(plan.lora), grouped(plan.lang_embed),
      grouped(plan.projection), grouped(plan.other), grouped(plan.frozen));
  text += fmt::format("{} ranks, ZeRO stage {}, {}; {}\n{}\n", options.ranks, options.zero_stage,
                      options.precision, samples_of_step_text(options, options.ranks),
                      plan.costs.memory.text());
  text += fmt::format("a rank sends in a full step at most: {} elements\n",
                      grouped(plan.costs.elements_per_step));
  text += fmt::format(
      "each rank computes in a full step: {:.4g} TFLOP (matrix products and attention; counted on "
      "{} samples of {} tokens with {} images each: {})\n",
      static_cast<double>(plan.operations.flops) * 1e-12, plan.operations.counted.samples,
      grouped(plan.operations.counted.length), plan.operations.counted.images,
      options.average_text_tokens > 0 ? "the average given" : "the most expensive possible");
  text += fmt::format("a checkpoint: {} (masters and moments of what is trained)",
                      bytes_text(plan.checkpoint_bytes));
  text += "\n" + plan.disk.text();
  if (!plan.features.empty()) text += "\n" + plan.features;
  if (const std::string free = free_disk_text(options, plan.disk); !free.empty())
    text += "\n" + free;
  return text + speed_text(plan, options);
}

void plan_command(const Options& options, const OpenQuestions& open_questions) {
  check_paths(Command::kPlan, options);
  const RunPlan plan = plan_run(options, open_questions);
  log_lines(plan_text(plan, options));
  const double limit = options.memory * (int64_t{1} << 30);
  const MemoryPlan& memory = plan.costs.memory;
  const int64_t needed = options.on_gpu() ? memory.on_device() : memory.total() + memory.decoding;
  CHECK(limit == 0 || static_cast<double>(needed) <= limit, ExitCode::kConfig,
        "a rank needs {} and has {} (--memory {}); more ranks at a higher --zero_stage, a smaller "
        "--per_device_train_batch_size or --max_seq_len, or --gradient_checkpointing take less, "
        "on the host also fewer --num_workers or --max_image_pixels",
        bytes_text(needed), bytes_text(static_cast<int64_t>(limit)), options.memory);
  check_disk(options, plan.disk);
}

}  // namespace facet
