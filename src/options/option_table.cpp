#include "options/option_table.h"

#include "data/dataset.h"
#include "optim/lr_schedule.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;

OptionField field(const char* name, OptionMember member, Group group, const char* commands,
                  const char* help) {
  return OptionField{
      .name = name, .member = member, .group = group, .commands = commands, .help = help};
}

void add_model_fields(std::vector<OptionField>& t) {
  const auto model = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kModel, "teg", help);
  };
  t.push_back(model("lm_model_name_or_path", &O::lm_model_name_or_path,
                    "directory of the language model: config.json, tokenizer.model, safetensors")
                  .required("teg")
                  .directory());
  t.push_back(model("vision_model_name_or_path", &O::vision_model_name_or_path,
                    "directory of the vision encoder: config.json, preprocessor_config.json, "
                    "safetensors (a whole CLIPModel will do)")
                  .required("teg")
                  .directory());
  t.push_back(model("vis_proj", &O::vis_proj,
                    "projection of vision features to the width of the language model")
                  .one_of({"baseline", "vit", "perceiver"}));
  t.push_back(
      model("projection", &O::projection,
            "exported file with projection and lang_embed to start from; without it the one "
            "beside the language model's directory, if there is one")
          .file());
  t.push_back(model("enable_mmca_attention", &O::enable_mmca_attention,
                    "multi-modal causal attention: text attends to images and to text apart"));
  t.push_back(
      model("max_seq_len", &O::max_seq_len,
            "longest sample in tokens, image tokens included; longer ones lose whole rounds "
            "from the end")
          .in(2, 1 << 24));
  t.push_back(model("image_size", &O::image_size,
                    "pixels of an image's side; 0: as the vision model's files say")
                  .in(0, 1 << 14));
  t.push_back(model("vision_feature_layer", &O::vision_feature_layer,
                    "whose output is the image feature: -1 the last block, -2 the one before")
                  .in(-1000, -1));
  t.push_back(model("drop_class_token", &O::drop_class_token,
                    "leave the vision encoder's class token out of the image tokens"));
  t.push_back(model("compat", &O::compat,
                    "visualchat: the arithmetic of DeepSpeed-VisualChat where this program "
                    "differs on purpose (attention, image order, loss average, decay, prompts)")
                  .one_of({"off", "visualchat"}));
}

void add_trained_fields(std::vector<OptionField>& t) {
  const auto lora = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kTrained, "t", help);
  };
  t.push_back(
      lora("lang_lora_dim", &O::lang_lora_dim, "rank of LoRA in the language model; 0: no LoRA")
          .in(0, 1 << 16));
  t.push_back(
      lora("lang_lora_alpha", &O::lang_lora_alpha, "its product counts alpha / rank").in(0, 1e6));
  t.push_back(lora("lang_lora_module_name", &O::lang_lora_module_name,
                   "linears whose path in the language model contains this get LoRA"));
  t.push_back(
      lora("vis_lora_dim", &O::vis_lora_dim, "rank of LoRA in the vision encoder; 0: no LoRA")
          .in(0, 1 << 16));
  t.push_back(
      lora("vis_lora_alpha", &O::vis_lora_alpha, "its product counts alpha / rank").in(0, 1e6));
  t.push_back(lora("vis_lora_module_name", &O::vis_lora_module_name,
                   "linears whose path in the vision encoder contains this get LoRA"));
  t.push_back(lora("only_optimize_lora", &O::only_optimize_lora,
                   "train nothing else inside the language model and the vision encoder"));
  t.push_back(lora("unfreeze", &O::unfreeze,
                   "also train parameters whose names start so, e.g. vis_encoder. lang_decoder."));
  t.push_back(lora("freeze", &O::freeze,
                   "do not train parameters whose names start so; counts after --unfreeze"));
}

std::vector<std::string> all_dataset_names() {
  std::vector<std::string> names = built_dataset_names();
  names.insert(names.end(), unbuilt_dataset_names().begin(), unbuilt_dataset_names().end());
  return names;
}

void add_data_fields(std::vector<OptionField>& t) {
  const auto data = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kData, "te", help);
  };
  t.push_back(data("data_path", &O::data_path, "directory of all data sets").directory());
  t.push_back(data("dataset_names", &O::dataset_names, "the data sets")
                  .one_of(all_dataset_names())
                  .only_built(built_dataset_names()));
  t.push_back(data("dataset_samples", &O::dataset_samples,
                   "how many samples of each: a number or all; one value serves every data set"));
  t.push_back(data("dataset_concatenate_samples", &O::dataset_concatenate_samples,
                   "join 1 to k single-image samples into one; one k serves every data set")
                  .in(1, 1024));
  t.push_back(data("data_train_split_ratio", &O::data_train_split_ratio,
                   "share of the samples that is trained on; the rest is evaluated")
                  .in(0, 1));
  t.push_back(data("max_num_image_per_sample", &O::max_num_image_per_sample,
                   "samples with more images are left out")
                  .in(0, 1 << 16));
  t.push_back(field("system_prompt_file", &O::system_prompt_file, Group::kData, "teg",
                    "text that opens every conversation, instead of data/prompts/'s own")
                  .file());
  t.push_back(data("caption_questions_file", &O::caption_questions_file,
                   "questions asked of captioned images, one a line")
                  .file());
  t.push_back(data("bad_samples", &O::bad_samples,
                   "an unreadable image, an empty answer: end the run, or count and leave out")
                  .one_of({"error", "skip"}));
  t.push_back(data("max_bad_fraction", &O::max_bad_fraction,
                   "with --bad_samples skip: end the run when more than this share is bad")
                  .in(0, 1));
  t.push_back(field("max_image_pixels", &O::max_image_pixels, Group::kData, "teg",
                    "an image of more pixels is a bad sample and is not unpacked")
                  .in(1, 1LL << 40));
  t.push_back(data("num_workers", &O::num_workers,
                   "host threads of each rank that read and decode ahead; 0: none")
                  .in(0, 256));
  t.push_back(field("replay", &O::replay, Group::kData, "t",
                    "train on the micro-batches recorded in this HDF5 file, in its order")
                  .file());
  t.push_back(field("dump_batches", &O::dump_batches, Group::kData, "t",
                    "record the micro-batches of the first N steps in OUT/batches.h5")
                  .in(0, 1 << 20));
  t.push_back(field("data_debug_path", &O::data_debug_path, Group::kData, "t",
                    "write the first ten training samples as text and images to this directory"));
}

void add_step_fields(std::vector<OptionField>& t) {
  const auto step = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kSteps, "t", help);
  };
  t.push_back(step("num_train_epochs", &O::num_train_epochs, "passes over the training samples")
                  .in(1, 1 << 20));
  t.push_back(
      step("max_steps", &O::max_steps, "end after so many steps; 0: at the last epoch's end")
          .in(0, 1LL << 40));
  t.push_back(step("per_device_train_batch_size", &O::per_device_train_batch_size,
                   "samples of a micro-batch on each rank")
                  .in(1, 1 << 16));
  t.push_back(field("per_device_eval_batch_size", &O::per_device_eval_batch_size, Group::kSteps,
                    "te", "the same in evaluation")
                  .in(1, 1 << 16));
  t.push_back(step("gradient_accumulation_steps", &O::gradient_accumulation_steps,
                   "micro-batches of a step on each rank")
                  .in(1, 1 << 16));
  t.push_back(step("loss_average", &O::loss_average,
                   "global: over all labelled tokens of the step; micro_batch: mean of each "
                   "micro-batch, then the plain mean (always so with --compat visualchat)")
                  .one_of({"global", "micro_batch"}));
  t.push_back(field("seed", &O::seed, Group::kSteps, "teg",
                    "of the data order, the draws and the parameters that no file brings")
                  .in(0, 9007199254740992.0));
  t.push_back(
      step("eval_interval", &O::eval_interval, "evaluate every so many steps; 0: after each epoch")
          .in(0, 1LL << 40));
  t.push_back(
      step("max_bad_steps", &O::max_bad_steps,
           "end when so many steps in a row have no finite gradient; while fp16's loss scale can "
           "still fall they are part of its search")
          .in(1, 1 << 20));
}

void add_optimizer_fields(std::vector<OptionField>& t) {
  const auto optim = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kOptimizer, "t", help);
  };
  t.push_back(optim("learning_rate", &O::learning_rate, "of AdamW, at its height").in(0, 1e3));
  t.push_back(optim("learning_rate_pretraining_components",
                    &O::learning_rate_pretraining_components,
                    "of embeddings; 0: the same as --learning_rate")
                  .in(0, 1e3));
  t.push_back(optim("weight_decay", &O::weight_decay, "not of biases and norms").in(0, 1e3));
  t.push_back(optim("lr_scheduler_type", &O::lr_scheduler_type, "how the rate changes")
                  .one_of(schedule_names()));
  t.push_back(optim("num_warmup_steps", &O::num_warmup_steps,
                    "steps in which the rate grows from 0; up to 1 it is a share of all steps")
                  .in(0, 1e12));
  t.push_back(optim("adam_betas", &O::adam_betas, "AdamW's two decay rates").in(0, 1));
  t.push_back(optim("adam_eps", &O::adam_eps, "AdamW's epsilon").in(0, 1));
  t.push_back(optim("gradient_clipping", &O::gradient_clipping,
                    "largest norm of all gradients together; 0: never clipped")
                  .in(0, 1e30));
}

void add_loss_scale_fields(std::vector<OptionField>& t) {
  const auto scale = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kOptimizer, "t", help);
  };
  t.push_back(scale("loss_scale", &O::loss_scale,
                    "fp16: what the loss is multiplied by; 0: it follows the overflows")
                  .in(0, 1e30));
  t.push_back(
      scale("initial_scale_power", &O::initial_scale_power, "fp16: it starts at 2 to this power")
          .in(0, 60));
  t.push_back(scale("loss_scale_window", &O::loss_scale_window,
                    "fp16: it is doubled after so many steps without an overflow")
                  .in(1, 1LL << 40));
  t.push_back(scale("hysteresis", &O::hysteresis,
                    "fp16: the overflow that halves it, counted since it was last doubled; further "
                    "ones halve it too")
                  .in(1, 1 << 20));
  t.push_back(scale("min_loss_scale", &O::min_loss_scale,
                    "fp16: it is never less; an overflow that would need less ends the run")
                  .in(0, 1e30));
}

void add_rank_fields(std::vector<OptionField>& t) {
  t.push_back(field("zero_stage", &O::zero_stage, Group::kRanks, "t",
                    "what is cut up between the ranks: 0 nothing, 1 optimizer state, 2 gradients "
                    "too, 3 parameters too, frozen ones as well")
                  .in(0, 3));
  t.push_back(field("reduce_every_micro_batch", &O::reduce_every_micro_batch, Group::kRanks, "t",
                    "sum gradients over the ranks after each micro-batch at stages 0 and 1 too, as "
                    "2 and 3 do: all stages then compute the same bits"));
  t.push_back(field("precision", &O::precision, Group::kRanks, "teg",
                    "what parameters and activations are kept in; sums, masters, moments and "
                    "gradients of parameters are fp32 in all three")
                  .one_of({"fp32", "bf16", "fp16"}));
  t.push_back(field("gradient_checkpointing", &O::gradient_checkpointing, Group::kRanks, "t",
                    "compute each block's activations again in backward: less memory, more time"));
  t.push_back(field("device", &O::device, Group::kRanks, "teg",
                    "what computes: cpu, or cuda: one GPU a rank, those of a host by turns")
                  .one_of({"cpu", "cuda"}));
  t.push_back(field("device_collectives", &O::device_collectives, Group::kRanks, "teg",
                    "between GPUs: nccl, or mpi by way of host memory; auto: nccl where no two "
                    "ranks share a GPU")
                  .one_of({"auto", "nccl", "mpi"}));
  t.push_back(field("threads", &O::threads, Group::kRanks, "teg",
                    "compute threads of each rank; 0: the visible cores shared out")
                  .in(0, 4096));
  t.push_back(
      field("local_rank", &O::local_rank, Group::kRanks, "t", "accepted and unused").ignored());
  t.push_back(
      field("deepspeed_config", &O::deepspeed_config, Group::kRanks, "t",
            "DeepSpeed's JSON file: batch sizes, precision, ZeRO; the command line beats it")
          .merged());
}

void add_zero_fields(std::vector<OptionField>& t) {
  const auto zero = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kRanks, "t", help);
  };
  t.push_back(zero("stage3_param_persistence_threshold", &O::stage3_param_persistence_threshold,
                   "stage 3: parameters of fewer elements stay on every rank and are not gathered")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_max_live_parameters", &O::stage3_max_live_parameters,
                   "stage 3: gather ahead only up to so many whole elements on a rank")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_prefetch_bucket_size", &O::stage3_prefetch_bucket_size,
                   "stage 3: elements gathered ahead of their use; 0: none")
                  .in(0, 1LL << 40));
  t.push_back(
      zero("reduce_bucket_size", &O::reduce_bucket_size,
           "gradients are summed over the ranks in buckets of so many elements, a few dozen "
           "a rank at least; any size "
           "gives the same bits, and takes twice its bytes on each rank")
          .in(1, 1 << 30));
  t.push_back(zero("overlap_comm", &O::overlap_comm,
                   "a bucket is on its way while backward goes on and fills the next one, which "
                   "takes a second bucket's memory; the same bits"));
  t.push_back(
      zero("communication_data_type", &O::communication_data_type,
           "bf16, fp16: each rank's gradients are rounded for their way to the others, half the "
           "bytes; they are still summed in fp32 and in rank order, and the sums are not rounded")
          .one_of({"fp32", "bf16", "fp16"}));
  t.push_back(
      zero("offload_optimizer", &O::offload_optimizer,
           "cpu: optimizer state in host memory, as --device cpu has it anyway; not built for GPUs")
          .one_of({"none", "cpu"}));
  t.push_back(
      zero("offload_param", &O::offload_param,
           "cpu: parameters in host memory, as --device cpu has them anyway; not built for GPUs")
          .one_of({"none", "cpu"}));
}

void add_output_fields(std::vector<OptionField>& t) {
  const auto output = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kOutput, "t", help);
  };
  t.push_back(
      output("output_dir", &O::output_dir, "where logs and models go; one run at a time holds it"));
  t.push_back(output("steps_per_print", &O::steps_per_print, "a console line every so many steps")
                  .in(1, 1LL << 40));
  t.push_back(output(
      "dry_run", &O::dry_run,
      "check everything, read 100 records of each data set, print steps, groups and memory"));
  t.push_back(output("save_interval", &O::save_interval,
                     "a checkpoint every so many steps, besides the one at each epoch's end; the "
                     "same command continues from the newest")
                  .in(0, 1LL << 40));
  t.push_back(
      output("save_minutes", &O::save_minutes, "a checkpoint every so many minutes").in(0, 1e6));
  t.push_back(
      output("keep_last", &O::keep_last, "so many of the newest checkpoints stay").in(1, 1 << 20));
  t.push_back(
      output("keep_best", &O::keep_best,
             "export the model to OUT/best at each evaluation with the lowest loss so far"));
  t.push_back(output("checkpoint_io", &O::checkpoint_io,
                     "posix: each rank writes its bytes; collective: MPI-IO of all ranks, for file "
                     "systems that need it")
                  .one_of({"posix", "collective"}));
  t.push_back(output("async_checkpoint", &O::async_checkpoint,
                     "write checkpoints beside the training, from a copy of the state in memory"));
  t.push_back(
      output("max_hours", &O::max_hours,
             "save and stop with exit code 85 before so many hours are over, as at SIGTERM, "
             "SIGUSR1 and SIGINT to the ranks (to mpirun: SIGUSR1, which it hands on); 0: before "
             "Slurm's time limit, if there is one")
          .in(0, 1e6));
  t.push_back(
      output("inject", &O::inject,
             "to try a restart: faults parted by ';', kill@MOMENT:rank=R,step=S kills that rank, "
             "stop@... stops it, fail@... is an error of its disk, slow@MOMENT:ms=M sleeps, "
             "nan@grad:rank=R,step=S puts a NaN into that rank's gradient; moments "
             "are data, compute, step, ckpt.begin, ckpt.write, ckpt.written, "
             "ckpt.rename, ckpt.latest, ckpt.retention, ckpt.removal; the environment variable "
             "FACET_INJECT adds more"));
  t.push_back(output("wall_clock_breakdown", &O::wall_clock_breakdown,
                     "print what the sections of a step took, every --steps_per_print steps"));
  t.push_back(output("straggler_interval", &O::straggler_interval,
                     "every so many steps, name the slowest rank and its section; 0: never")
                  .in(0, 1LL << 40));
  t.push_back(output("enable_tensorboard", &O::enable_tensorboard, "event files for TensorBoard")
                  .not_built());
}

void add_watchdog_fields(std::vector<OptionField>& t) {
  const auto limit = [&](const char* name, OptionMember member, const char* commands,
                         const char* help) {
    t.push_back(field(name, member, Group::kOutput, commands, help).in(0, 1e9));
  };
  limit("hang_seconds_load", &O::hang_seconds_load, "teg",
        "end the job with exit code 86 and one report when a rank makes no progress for so long "
        "while everything is set up; 0: never");
  limit("hang_seconds_data", &O::hang_seconds_data, "t", "the same while it waits for a sample");
  limit("hang_seconds_compute", &O::hang_seconds_compute, "tg",
        "in forward, backward, reduction and optimizer; a block of the model is progress");
  limit("hang_seconds_evaluate", &O::hang_seconds_evaluate, "te",
        "in an evaluation, its data included");
  limit("hang_seconds_save", &O::hang_seconds_save, "tg",
        "in checkpoints, exports, logs and answers");
  limit("hang_seconds_collective", &O::hang_seconds_collective, "teg",
        "where all ranks of a host wait for other hosts, whose own watchdogs say nothing");
}

void add_generate_fields(std::vector<OptionField>& t) {
  const auto generate = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "g", help);
  };
  t.push_back(generate("input", &O::input,
                       "JSON {test: [[question, \"path path\"?], ...]}: paths of images parted by "
                       "blanks; the questions of a test are rounds of one conversation")
                  .required("g")
                  .file());
  t.push_back(
      generate("output", &O::output, "CSV: test_name,image_path,question,answer").required("g"));
  t.push_back(generate("max_new_tokens", &O::max_new_tokens, "longest answer").in(1, 1 << 24));
  t.push_back(generate("temperature", &O::temperature,
                       "0: always the most likely token; above: draws, flatter as it grows")
                  .in(0, 1e3));
  t.push_back(generate("top_k", &O::top_k, "draw among the k most likely; 0: all").in(0, 1 << 24));
  t.push_back(generate("top_p", &O::top_p,
                       "draw among the most likely that together reach this probability")
                  .in(0, 1));
}

void add_plan_fields(std::vector<OptionField>& t) {
  const auto plan = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kPlan, "p", help);
  };
  t.push_back(plan("ranks", &O::ranks, "of the run that is planned").in(1, 1 << 20));
  t.push_back(
      plan("memory", &O::memory, "GiB that a rank has; a run that needs more is an error; 0: any")
          .in(0, 1e9));
  t.push_back(plan("average_text_tokens", &O::average_text_tokens,
                   "count operations on samples of so many text tokens; 0: on the longest samples")
                  .in(0, 1 << 24));
  t.push_back(plan("average_images", &O::average_images,
                   "and with so many images, beside --average_text_tokens")
                  .in(0, 1 << 16));
}

std::vector<OptionField> make_table() {
  std::vector<OptionField> table;
  add_model_fields(table);
  add_trained_fields(table);
  add_data_fields(table);
  add_step_fields(table);
  add_optimizer_fields(table);
  add_loss_scale_fields(table);
  add_rank_fields(table);
  add_zero_fields(table);
  add_output_fields(table);
  add_watchdog_fields(table);
  add_generate_fields(table);
  add_plan_fields(table);
  return table;
}

}  // namespace

const std::vector<OptionField>& option_table() {
  static const std::vector<OptionField> kTable = make_table();
  return kTable;
}

std::vector<std::string> option_names() {
  std::vector<std::string> names;
  for (const OptionField& f : option_table()) names.emplace_back(f.name);
  return names;
}

}  // namespace facet
