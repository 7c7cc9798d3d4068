#include "options/option_table.h"

#include "data/chat_template.h"
#include "data/dataset.h"
#include "optim/lr_schedule.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

OptionField field(const char* name, OptionMember member, Group group, const char* commands,
                  OnResume on_resume, const char* help) {
  return OptionField{.name = name,
                     .member = member,
                     .group = group,
                     .commands = commands,
                     .on_resume = on_resume,
                     .help = help};
}

// Files may have moved when a run is resumed: fingerprints and hashes tell whether they are the
// same.
void add_model_fields(std::vector<OptionField>& t) {
  const auto model = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kModel, "tegc", on_resume, help);
  };
  t.push_back(
      field("lm_model_name_or_path", &O::lm_model_name_or_path, Group::kModel, "tegcx", kMayChange,
            "directory of the language model: config.json, tokenizer.model or tokenizer.json, "
            "safetensors or pytorch_model.bin; or its name on the Hugging Face hub, if it is in "
            "the local cache. A whole LLaVA 1.5 brings the vision encoder and the projection")
          .required("tegc")
          .directory());
  t.push_back(
      field("vision_model_name_or_path", &O::vision_model_name_or_path, Group::kModel, "tegcx",
            kMayChange,
            "directory of the vision encoder: config.json, preprocessor_config.json, "
            "safetensors or pytorch_model.bin of a CLIP, SigLIP or Qwen-VL model, "
            "whole or its encoder alone; or its name on the hub. By default that of a whole LLaVA")
          .required("tegc")
          .directory());
  t.push_back(model("vis_proj", &O::vis_proj, kMustMatch,
                    "projection from vision features to the width of the language model")
                  .one_of({"baseline", "vit", "perceiver", "mlp2x_gelu"}));
  t.push_back(
      model("projection", &O::projection, kMayChange,
            "exported file with projection and lang_embed to start from, by default the one next "
            "to the language model's directory, if there is one; or a whole model's "
            "pytorch_model.bin of DeepSpeed-VisualChat, or LLaVA's mm_projector.bin")
          .file());
  t.push_back(
      model("adapter", &O::adapter, kMayChange,
            "directory of an adapter to start from: an export of that kind, or one that PEFT "
            "wrote; LoRA's rank, alpha and modules are those of the adapter, and a "
            "projection.safetensors in it is read in place of the one by the language model")
          .directory());
  t.push_back(model("enable_mmca_attention", &O::enable_mmca_attention, kMustMatch,
                    "multi-modal causal attention: text attends to images and to text separately"));
  t.push_back(model("max_seq_len", &O::max_seq_len, kMustMatch,
                    "longest sample in tokens, image tokens included; longer ones lose whole "
                    "rounds from the end")
                  .in(2, 1 << 24)
                  .usually_given());
  t.push_back(model("image_size", &O::image_size, kMustMatch,
                    "side of an image in pixels; 0: as in the vision model's files")
                  .in(0, 1 << 14));
  t.push_back(model("image_aspect_ratio", &O::image_aspect_ratio, kMustMatch,
                    "pad: make each image a square first, with bars of the processor's mean "
                    "colour; auto: only if preprocessor_config.json says so")
                  .one_of({"auto", "pad"}));
  t.push_back(model("vision_feature_layer", &O::vision_feature_layer, kMustMatch,
                    "vision block whose output is the image feature: -1 the last, -2 the one "
                    "before it")
                  .in(-1000, -1));
  t.push_back(model("drop_class_token", &O::drop_class_token, kMustMatch,
                    "leave CLIP's class token out of the image tokens"));
  t.push_back(field("vision_image_by_image", &O::vision_image_by_image, Group::kModel, "t",
                    kMayChange,
                    "with --device cuda: compute each image's features for itself, so that their "
                    "last bits do not depend on what else is in the micro-batch; --device cpu and "
                    "--feature_cache do so anyway, a vision encoder that is trained never does"));
  t.push_back(model("compat", &O::compat, kMustMatch,
                    "visualchat: the arithmetic of DeepSpeed-VisualChat where this program "
                    "differs on purpose (attention, image order, loss average, decay, prompts)")
                  .one_of({"off", "visualchat"}));
}

void add_trained_fields(std::vector<OptionField>& t) {
  const auto trained = [&](const char* name, OptionMember member, OnResume on_resume,
                           const char* help) {
    return field(name, member, Group::kTrained, "t", on_resume, help);
  };
  t.push_back(trained("lang_lora_dim", &O::lang_lora_dim, kMustMatch,
                      "rank of LoRA in the language model; 0: no LoRA")
                  .in(0, 1 << 16));
  t.push_back(trained("lang_lora_alpha", &O::lang_lora_alpha, kMustMatch,
                      "LoRA's output is scaled by alpha / rank")
                  .in(0, 1e6));
  t.push_back(trained("lang_lora_rslora", &O::lang_lora_rslora, kMustMatch,
                      "rank-stabilised LoRA: scaled by alpha / sqrt(rank) instead"));
  t.push_back(
      trained("lang_lora_dora", &O::lang_lora_dora, kMustMatch,
              "DoRA: a magnitude is trained for each row of an adapted weight, beside LoRA"));
  t.push_back(trained("lang_lora_module_name", &O::lang_lora_module_name, kMustMatch,
                      "linear layers whose path in the language model contains this get LoRA"));
  t.push_back(trained("vis_lora_dim", &O::vis_lora_dim, kMustMatch,
                      "rank of LoRA in the vision encoder; 0: no LoRA")
                  .in(0, 1 << 16));
  t.push_back(trained("vis_lora_alpha", &O::vis_lora_alpha, kMustMatch,
                      "LoRA's output is scaled by alpha / rank")
                  .in(0, 1e6));
  t.push_back(trained("vis_lora_rslora", &O::vis_lora_rslora, kMustMatch,
                      "rank-stabilised LoRA: scaled by alpha / sqrt(rank) instead"));
  t.push_back(
      trained("vis_lora_dora", &O::vis_lora_dora, kMustMatch,
              "DoRA: a magnitude is trained for each row of an adapted weight, beside LoRA"));
  t.push_back(trained("vis_lora_module_name", &O::vis_lora_module_name, kMustMatch,
                      "linear layers whose path in the vision encoder contains this get LoRA"));
  t.push_back(trained("only_optimize_lora", &O::only_optimize_lora, kMustMatch,
                      "train nothing else inside the language model and the vision encoder"));
  t.push_back(trained("unfreeze", &O::unfreeze, kMustMatch,
                      "also train parameters whose names begin with one of these, e.g. "
                      "vis_encoder. lang_decoder."));
  t.push_back(trained("freeze", &O::freeze, kMustMatch,
                      "do not train parameters whose names begin with one of these; applied after "
                      "--unfreeze"));
}

void add_data_fields(std::vector<OptionField>& t) {
  const auto data = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kData, "te", on_resume, help);
  };
  t.push_back(data("data_path", &O::data_path, kMayChange, "directory that holds all data sets")
                  .directory()
                  .usually_given());
  t.push_back(data("image_root", &O::image_root, kMayChange,
                   "directory of the images of own data (json:PATH); without it they lie beside "
                   "PATH")
                  .directory());
  t.push_back(
      data("dataset_names", &O::dataset_names, kMustMatch,
           "the data sets; of own data json:PATH, JSON lines or an array, and tar:PATH, tar "
           "shards such as tar:'s-{000..127}.tar'")
          .one_of(dataset_names())
          .or_kinds(own_dataset_kinds())
          .usually_given());
  t.push_back(data("dataset_samples", &O::dataset_samples, kMustMatch,
                   "number of samples of each, or all; a single value applies to every data set"));
  t.push_back(data("dataset_concatenate_samples", &O::dataset_concatenate_samples, kMustMatch,
                   "join 1 to k single-image samples into one; a single k applies to every data "
                   "set")
                  .in(1, 1024));
  t.push_back(data("dataset_weights", &O::dataset_weights, kMustMatch,
                   "share of each data set in an epoch, whatever its size; only the ratios count; "
                   "without it every sample is used once an epoch")
                  .in(1e-6, 1e6));
  t.push_back(data("data_config", &O::data_config, kMayChange,
                   "JSON file with the data sets, their samples, weights, files and system texts, "
                   "instead of --dataset_names and the options that go with it")
                  .file());
  t.push_back(data("data_train_split_ratio", &O::data_train_split_ratio, kMustMatch,
                   "fraction of the samples used for training; the rest is for evaluation")
                  .in(0, 1));
  t.push_back(data("max_num_image_per_sample", &O::max_num_image_per_sample, kMustMatch,
                   "a sample with more images is a bad sample: see --bad_samples; the otter, blend "
                   "and sparkles sets leave such conversations out")
                  .in(0, 1 << 16));
  t.push_back(field("system_prompt_file", &O::system_prompt_file, Group::kData, "tegc", kMayChange,
                    "text that opens every conversation, instead of the one in data/prompts/")
                  .file());
  t.push_back(field("chat_template", &O::chat_template, Group::kData, "tegc", kMustMatch,
                    "the form of a conversation: this program's own, or that of a chat model to go "
                    "on from; its tokenizer must have the form's tokens")
                  .one_of(chat_template_names()));
  t.push_back(data("caption_questions_file", &O::caption_questions_file, kMayChange,
                   "questions to ask about captioned images, one per line")
                  .file());
  t.push_back(data("why_phrases_file", &O::why_phrases_file, kMayChange,
                   "phrases that ask for the reasons of an answer (aokvqa), one per line")
                  .file());
  t.push_back(data("bad_samples", &O::bad_samples, kMustMatch,
                   "a sample that cannot be used, e.g. an unreadable image or an empty answer: "
                   "error ends the run, skip leaves the sample out and counts it")
                  .one_of({"error", "skip"}));
  t.push_back(data("max_bad_fraction", &O::max_bad_fraction, kMayChange,
                   "with --bad_samples skip: end the run when more than this fraction is bad")
                  .in(0, 1));
  t.push_back(
      field("max_image_pixels", &O::max_image_pixels, Group::kData, "tegc", kMustMatch,
            "an image with more pixels is a bad sample and is not decoded; above the default "
            "Pillow warns of a decompression bomb. Decoding takes a worker up to 8 bytes "
            "of memory a pixel")
          .in(1, 1LL << 40));
  t.push_back(data("allow_outside_images", &O::allow_outside_images, kMayChange,
                   "records may name images outside their set's directory, by absolute paths or "
                   "..; else such a sample is bad"));
  t.push_back(data("num_workers", &O::num_workers, kMayChange,
                   "host threads of each rank that read and decode ahead; 0: none")
                  .in(0, 256));
  t.push_back(field("feature_cache", &O::feature_cache, Group::kData, "t", kMayChange,
                    "directory in which the features that the frozen vision encoder computes are "
                    "kept, for later epochs and other runs, several at a time; cache-features "
                    "fills it beforehand")
                  .new_directory());
  t.push_back(field("feature_cache_gib", &O::feature_cache_gib, Group::kData, "t", kMayChange,
                    "once --feature_cache holds this many GiB nothing more is added, and other "
                    "images are computed each time; 0: until the disk is full")
                  .in(0, 1LL << 32));
  t.push_back(field("replay", &O::replay, Group::kData, "t", kMayChange,
                    "train on the micro-batches recorded in this HDF5 file, in their order")
                  .file());
  t.push_back(field("dump_batches", &O::dump_batches, Group::kData, "t", kMayChange,
                    "record the micro-batches of the first N steps in OUT/batches.h5")
                  .in(0, 1 << 20));
  t.push_back(field("data_debug_path", &O::data_debug_path, Group::kData, "t", kMayChange,
                    "write the first ten training samples as text and images to this directory")
                  .new_directory());
}

// How the samples of a step are divided among ranks and micro-batches may change: the size of the
// whole step is compared.
void add_step_fields(std::vector<OptionField>& t) {
  const auto step = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kSteps, "t", on_resume, help);
  };
  t.push_back(step("num_train_epochs", &O::num_train_epochs, kMayChange,  // but only grow
                   "passes over the training samples")
                  .in(1, 1 << 20)
                  .usually_given());
  t.push_back(step("max_steps", &O::max_steps, kMayChange,
                   "end after this many steps; 0: at the end of the last epoch")
                  .in(0, 1LL << 40));
  t.push_back(step("per_device_train_batch_size", &O::per_device_train_batch_size, kMayChange,
                   "samples per micro-batch on each rank")
                  .in(1, 1 << 16)
                  .usually_given());
  t.push_back(field("per_device_eval_batch_size", &O::per_device_eval_batch_size, Group::kSteps,
                    "te", kMayChange, "the same for evaluation")
                  .in(1, 1 << 16));
  t.push_back(step("gradient_accumulation_steps", &O::gradient_accumulation_steps, kMayChange,
                   "micro-batches per step on each rank")
                  .in(1, 1 << 16));
  t.push_back(
      step("tokens_per_micro_batch", &O::tokens_per_micro_batch, kMayChange,
           "fill micro-batches with samples up to so many tokens, those of images included, "
           "and deal a step's samples to the ranks by their operations; "
           "--per_device_train_batch_size x ranks x --gradient_accumulation_steps is still "
           "the number of samples of a step; 0: micro-batches by samples")
          .in(0, 1 << 24));
  t.push_back(step("loss_average", &O::loss_average, kMustMatch,
                   "global: mean over all labelled tokens of the step; micro_batch: mean of each "
                   "micro-batch, then the mean of these (always so with --compat visualchat)")
                  .one_of({"global", "micro_batch"}));
  t.push_back(field("seed", &O::seed, Group::kSteps, "tegc", kMustMatch,
                    "seed of the data order, of all draws and of parameters that no file provides")
                  .in(0, 9007199254740992.0));
  t.push_back(step("eval_interval", &O::eval_interval, kMayChange,
                   "evaluate every N steps; 0: after each epoch")
                  .in(0, 1LL << 40));
  t.push_back(step("max_bad_steps", &O::max_bad_steps, kMayChange,
                   "end after this many steps in a row without a finite gradient; those by which "
                   "fp16's loss scale finds its value do not count")
                  .in(1, 1 << 20));
}

void add_optimizer_fields(std::vector<OptionField>& t) {
  const auto optim = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kOptimizer, "t", on_resume, help);
  };
  t.push_back(optim("learning_rate", &O::learning_rate, kMustMatch, "peak learning rate of AdamW")
                  .in(0, 1e3)
                  .usually_given());
  t.push_back(optim("learning_rate_pretraining_components",
                    &O::learning_rate_pretraining_components, kMustMatch,
                    "learning rate of parameters with embed in their names; 0: the same as "
                    "--learning_rate")
                  .in(0, 1e3));
  t.push_back(optim("lora_plus_ratio", &O::lora_plus_ratio, kMustMatch,
                    "LoRA+: the learning rate of LoRA's second matrices (lora_left_weight, PEFT's "
                    "lora_B), as a multiple of the others'")
                  .in(1, 1e6));
  t.push_back(optim("weight_decay", &O::weight_decay, kMustMatch,
                    "AdamW's weight decay; biases and norms have none")
                  .in(0, 1e3));
  t.push_back(optim("lr_scheduler_type", &O::lr_scheduler_type, kMustMatch,
                    "how the learning rate changes over the run")
                  .one_of(schedule_names()));
  t.push_back(optim("num_warmup_steps", &O::num_warmup_steps, kMustMatch,
                    "steps in which the rate rises from 0; up to 1: a fraction of all steps")
                  .in(0, 1e12));
  t.push_back(optim("adam_betas", &O::adam_betas, kMustMatch, "AdamW's two decay rates").in(0, 1));
  t.push_back(optim("adam_eps", &O::adam_eps, kMustMatch, "AdamW's epsilon").in(0, 1));
  t.push_back(optim("gradient_clipping", &O::gradient_clipping, kMustMatch,
                    "largest norm of all gradients together; 0: no clipping")
                  .in(0, 1e30));
}

// What the arithmetic rounds to may change: masters and moments are fp32 in every precision.
void add_loss_scale_fields(std::vector<OptionField>& t) {
  const auto scale = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kOptimizer, "t", on_resume, help);
  };
  t.push_back(scale("loss_scale", &O::loss_scale, kMayChange,
                    "fp16: factor by which the loss is multiplied; 0: adjusted after overflows")
                  .in(0, 1e30));
  t.push_back(scale("initial_scale_power", &O::initial_scale_power, kMayChange,
                    "fp16: the adjusted scale starts at 2 to this power")
                  .in(0, 60));
  t.push_back(scale("loss_scale_window", &O::loss_scale_window, kMayChange,
                    "fp16: the scale is doubled after this many steps without an overflow")
                  .in(1, 1LL << 40));
  t.push_back(scale("hysteresis", &O::hysteresis, kMayChange,
                    "fp16: the scale is halved at this overflow, counted since it last grew, and "
                    "at each one after it")
                  .in(1, 1 << 20));
  t.push_back(scale("min_loss_scale", &O::min_loss_scale, kMayChange,
                    "fp16: smallest scale; an overflow that would need a smaller one ends the run")
                  .in(0, 1e30));
}

void add_rank_fields(std::vector<OptionField>& t) {
  t.push_back(field("zero_stage", &O::zero_stage, Group::kRanks, "t", kMayChange,
                    "what is partitioned over the ranks: 0 nothing, 1 optimizer state, 2 gradients "
                    "too, 3 parameters too, including frozen ones")
                  .in(0, 3)
                  .usually_given());
  t.push_back(field("reduce_every_micro_batch", &O::reduce_every_micro_batch, Group::kRanks, "t",
                    kMayChange,
                    "sum gradients over the ranks after every micro-batch at stages 0 and 1 too, "
                    "as 2 and 3 do: all stages then compute the same bits"));
  t.push_back(field("precision", &O::precision, Group::kRanks, "tegc", kMayChange,
                    "type of parameters and activations; sums, master weights, moments and "
                    "gradients of parameters are fp32 in all three")
                  .one_of({"fp32", "bf16", "fp16"})
                  .usually_given());
  t.push_back(field("gradient_checkpointing", &O::gradient_checkpointing, Group::kRanks, "t",
                    kMayChange,
                    "recompute each block's activations in the backward pass: less memory, more "
                    "time"));
  t.push_back(field("device", &O::device, Group::kRanks, "tegcb", kMayChange,
                    "cpu, or cuda: one GPU per rank, assigned round-robin on each host")
                  .one_of({"cpu", "cuda"})
                  .usually_given());
  t.push_back(field("device_collectives", &O::device_collectives, Group::kRanks, "tegb", kMayChange,
                    "transport between GPUs: nccl, or mpi through host memory; auto: nccl where "
                    "no two ranks share a GPU, none for one rank")
                  .one_of({"auto", "nccl", "mpi"}));
  t.push_back(field("product_algorithms", &O::product_algorithms, Group::kRanks, "t", kMayChange,
                    "which of cuBLASLt's algorithms computes a matrix product: the first that it "
                    "proposes, or, timed, the fastest of up to eight, timed at the start. The run "
                    "then keeps its choices in its checkpoints: it has equal bits when it goes on, "
                    "not when it begins anew")
                  .one_of({"first", "timed"}));
  t.push_back(field("attention", &O::attention, Group::kRanks, "t", kMayChange,
                    "what computes attention on a GPU: facet's own kernels, or cuDNN's, which take "
                    "bf16 and fp16, no --enable_mmca_attention, and as many heads of keys as of "
                    "queries")
                  .one_of({"facet", "cudnn"}));
  t.push_back(
      field("lora_products", &O::lora_products, Group::kRanks, "t", kMayChange,
            "how a GPU adds LoRA to a linear layer: separate computes them apart and adds "
            "them up, which rounds twice; fused, on an H100 or H200 in bf16 or fp16 and for "
            "ranks that are multiples of 8, computes both in one product of facet's own in "
            "place of cuBLASLt's and rounds once, so the bits of the two differ, and LoRA's first "
            "product of SwiGLU's output within SwiGLU; timed times both ways of each for each shape "
            "at the start, those of SwiGLU on any GPU, takes the faster, and keeps the choices in "
            "the checkpoints")
          .one_of({"separate", "fused", "timed"}));
  t.push_back(
      field("threads", &O::threads, Group::kRanks, "tegcb", kMayChange,
            "compute threads of each rank; 0: its share of the cores it is bound to, at most "
            "SLURM_CPUS_PER_TASK and OMP_NUM_THREADS")
          .in(0, 4096));
  t.push_back(field("local_rank", &O::local_rank, Group::kRanks, "t", kMayChange,
                    "accepted for old launch scripts, and ignored")
                  .ignored());
  t.push_back(field("deepspeed_config", &O::deepspeed_config, Group::kRanks, "t", kMayChange,
                    "DeepSpeed's JSON file: batch sizes, precision, ZeRO; the command line takes "
                    "precedence")
                  .merged());
}

void add_zero_fields(std::vector<OptionField>& t) {
  const auto zero = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kRanks, "t", on_resume, help);
  };
  t.push_back(zero("stage3_param_persistence_threshold", &O::stage3_param_persistence_threshold,
                   kMayChange,
                   "stage 3: parameters with fewer elements stay on every rank and are not "
                   "gathered")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_max_live_parameters", &O::stage3_max_live_parameters, kMayChange,
                   "stage 3: gather ahead only while a rank holds at most this many gathered "
                   "elements")
                  .in(0, 1LL << 40));
  t.push_back(zero("stage3_prefetch_bucket_size", &O::stage3_prefetch_bucket_size, kMayChange,
                   "stage 3: elements gathered ahead of their use; 0: none")
                  .in(0, 1LL << 40));
  t.push_back(zero("reduce_bucket_size", &O::reduce_bucket_size, kMayChange,
                   "gradients are summed over the ranks in buckets of this many elements, at "
                   "least a few dozen per rank; any size gives the same bits and takes twice its "
                   "bytes on each rank; 0: 2000000, with --device cuda 16000000 and "
                   "--overlap_comm")
                  .in(0, 1 << 30));
  t.push_back(zero("overlap_comm", &O::overlap_comm, kMayChange,
                   "send a bucket while the backward pass fills the next one, which takes the "
                   "memory of a second bucket; the same bits"));
  t.push_back(zero("communication_data_type", &O::communication_data_type, kMayChange,
                   "bf16, fp16: each rank's gradients are rounded before they are sent, for half "
                   "the bytes; they are still summed in fp32 and in rank order, and the sums are "
                   "not rounded")
                  .one_of({"fp32", "bf16", "fp16"}));
  t.push_back(
      zero("offload_optimizer", &O::offload_optimizer, kMayChange,
           "cpu: optimizer state in page-locked host memory, and its step is computed there; "
           "the same bits. --device cpu has it there anyway")
          .one_of({"none", "cpu"}));
  t.push_back(
      zero("offload_param", &O::offload_param, kMayChange,
           "cpu: with --zero_stage 3 and --offload_optimizer cpu, this rank's slices of the "
           "parameters in page-locked host memory too; they come to the GPU for each use, "
           "those of the next block while one computes; the same bits. --device cpu has them "
           "there anyway")
          .one_of({"none", "cpu"}));
}

void add_output_fields(std::vector<OptionField>& t) {
  const auto output = [&](const char* name, OptionMember member, OnResume on_resume,
                          const char* help) {
    return field(name, member, Group::kOutput, "t", on_resume, help);
  };
  t.push_back(output("output_dir", &O::output_dir, kMayChange,
                     "directory for logs, checkpoints and models; used by one run at a time")
                  .new_directory()
                  .usually_given());
  t.push_back(
      output("steps_per_print", &O::steps_per_print, kMayChange, "print a line every N steps")
          .in(1, 1LL << 40));
  t.push_back(output("dry_run", &O::dry_run, kMayChange,
                     "check everything, read 100 records of each data set, print steps, groups "
                     "and memory; with --output_dir: that it can be written, is free, has room for "
                     "a checkpoint and an export, and what the run would continue from"));
  t.push_back(
      output("check_all_samples", &O::check_all_samples, kMayChange,
             "with --dry_run: decode and build every record of the data sets, on all ranks, "
             "and list all bad ones; exit code 65 if there are any"));
  t.push_back(output("replay_step", &O::replay_step, kMayChange,
                     "repeat this step of the run in --output_dir, from its newest checkpoint "
                     "before it, tell all about it and compare it with the log; the run is left as "
                     "it is. With --dump_batches its micro-batches go to OUT/step_N.batches.h5; 0: "
                     "train")
                  .in(0, 1LL << 40));
  t.push_back(output("save_interval", &O::save_interval, kMayChange,
                     "save a checkpoint every N steps, besides the one at the end of each epoch; "
                     "0: that one only; the same command resumes from the newest")
                  .in(0, 1LL << 40));
  t.push_back(
      output("save_minutes", &O::save_minutes, kMayChange,
             "save a checkpoint when the last one is this many minutes old; 0: never by the clock")
          .in(0, 1e6));
  t.push_back(
      output("keep_last", &O::keep_last, kMayChange, "keep this many checkpoints, the newest")
          .in(1, 1 << 20));
  t.push_back(output("keep_best", &O::keep_best, kMayChange,
                     "export the model to OUT/best at each evaluation with the lowest loss so "
                     "far"));
  t.push_back(
      field(
          "export", &O::export_kind, Group::kOutput, "tx", kMayChange,
          "full: a whole model with LoRA merged into it; adapter: only what was trained, in PEFT's "
          "format; none: nothing; auto: a run leaves an adapter after each epoch and the whole "
          "model at the end, or with no LoRA or with more of the models trained the whole model "
          "each time, and facet export makes the whole model")
          .one_of({"auto", "full", "adapter", "none"})
          .usually_given());
  t.push_back(output("export_every", &O::export_every, kMayChange,
                     "export after every N-th epoch, and at the end")
                  .in(1, 1 << 20));
  t.push_back(output("keep_exports", &O::keep_exports, kMayChange,
                     "keep this many of OUT/epoch-N, the newest; older ones go when a newer one is "
                     "complete; 0: keep all")
                  .in(0, 1 << 20));
  t.push_back(field("export_dtype", &O::export_dtype, Group::kOutput, "tx", kMayChange,
                    "type of exported tensors; auto: each as in the file that it was read from, "
                    "frozen ones bit for bit, and fp32 for those that no file had")
                  .one_of({"auto", "fp32", "bf16", "fp16"}));
  t.push_back(field("to", &O::to, Group::kOutput, "x", kNotOfTraining,
                    "directory to export to, which must not be there yet")
                  .required("x")
                  .new_directory());
  t.push_back(output("checkpoint_io", &O::checkpoint_io, kMayChange,
                     "posix: each rank writes its own bytes; collective: MPI-IO by all ranks, for "
                     "file systems that need it (takes a parallel HDF5)")
                  .one_of({"posix", "collective"}));
  t.push_back(output("async_checkpoint", &O::async_checkpoint, kMayChange,
                     "write checkpoints while training goes on, from a copy of the state in "
                     "memory; with --checkpoint_io posix only"));
  t.push_back(
      output("max_hours", &O::max_hours, kMayChange,
             "save and stop with exit code 85 before this many hours have passed, as on "
             "SIGTERM, SIGUSR1, SIGUSR2, SIGHUP or SIGINT to the ranks (to mpirun: SIGUSR1, "
             "which it forwards); 0: before Slurm's time limit, if there is one")
          .in(0, 1e6));
  t.push_back(output(
      "inject", &O::inject, kMayChange,
      "faults for trying out restarts, separated by ';': kill@MOMENT:rank=R,step=S kills that "
      "rank, stop@... stops it, fail@... makes its disk fail, slow@MOMENT:ms=M sleeps, "
      "nan@grad:rank=R,step=S puts a NaN into that rank's gradient; moments are data, data.read, "
      "compute, log, evaluate, sample, step, export, ckpt.begin, ckpt.write, ckpt.written, "
      "ckpt.rename, "
      "ckpt.latest, ckpt.retention, ckpt.removal; the environment variable FACET_INJECT adds "
      "more"));
  t.push_back(output("wall_clock_breakdown", &O::wall_clock_breakdown, kMayChange,
                     "print what forward, backward, reduction, optimizer and the rest of a step "
                     "took every --steps_per_print steps; a GPU is waited for at the end of each"));
  t.push_back(output("peak_tflops", &O::peak_tflops, kMayChange,
                     "what a rank's processor can do at most, in TFLOP/s, for the column mfu of "
                     "the log; 0: with a GPU worked out from its properties, else mfu stays empty")
                  .in(0, 1e6));
  t.push_back(output("straggler_interval", &O::straggler_interval, kMayChange,
                     "name the slowest rank and its section every N steps; 0: never")
                  .in(0, 1LL << 40));
  t.push_back(output("enable_tensorboard", &O::enable_tensorboard, kMayChange,
                     "write event files for TensorBoard"));
  t.push_back(output("tensorboard_path", &O::tensorboard_path, kMayChange,
                     "directory of the event files, in which --tensorboard_job_name is made; "
                     "without it --output_dir")
                  .new_directory());
  t.push_back(output("tensorboard_job_name", &O::tensorboard_job_name, kMayChange,
                     "directory below --tensorboard_path that holds this run's event files"));
}

// The names of DeepSpeed's hybrid_engine, from max_out_tokens on.
void add_sample_fields(std::vector<OptionField>& t) {
  const auto sample = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kOutput, "t", kMayChange, help);
  };
  t.push_back(sample("sample_prompts", &O::sample_prompts,
                     "answer these questions while training, into OUT/samples.jsonl and "
                     "TensorBoard: JSON as --input of facet generate has it")
                  .file());
  t.push_back(sample("sample_interval", &O::sample_interval,
                     "answer --sample_prompts every N steps and at the end; 0: after each epoch")
                  .in(0, 1LL << 40));
  t.push_back(sample("max_out_tokens", &O::max_out_tokens,
                     "--sample_prompts: longest conversation in tokens, those of questions and "
                     "images included; 0: --max_seq_len")
                  .in(0, 1 << 24));
  t.push_back(sample("pin_parameters", &O::pin_parameters,
                     "--sample_prompts at stage 3: gather all parameters once for all answers, "
                     "which takes a rank the memory of the whole model; else some layers for each "
                     "token"));
  t.push_back(sample("tp_gather_partition_size", &O::tp_gather_partition_size,
                     "--sample_prompts at stage 3 without --pin_parameters: layers that are "
                     "gathered at a time")
                  .in(1, 1 << 20));
  t.push_back(sample("release_inference_cache", &O::release_inference_cache,
                     "--sample_prompts: give back the memory that answers take beyond that of a "
                     "step when they are done; else it is kept"));
}

void add_watchdog_fields(std::vector<OptionField>& t) {
  const auto limit = [&](const char* name, OptionMember member, const char* commands,
                         const char* help) {
    t.push_back(field(name, member, Group::kOutput, commands, kMayChange, help).in(0, 1e9));
  };
  limit("hang_seconds_load", &O::hang_seconds_load, "tegcb",
        "end the job with exit code 86 and one report when a rank makes no progress for this long "
        "during set-up; 0: never");
  limit("hang_seconds_data", &O::hang_seconds_data, "t", "the same while it waits for a sample");
  limit("hang_seconds_compute", &O::hang_seconds_compute, "tgcb",
        "in forward, backward, reduction and optimizer; every block of the model is progress");
  limit("hang_seconds_evaluate", &O::hang_seconds_evaluate, "te",
        "in an evaluation, including its data, and in answering --sample_prompts");
  limit("hang_seconds_save", &O::hang_seconds_save, "tg",
        "in checkpoints, exports, logs and answers");
  limit("hang_seconds_collective", &O::hang_seconds_collective, "tegcb",
        "while all ranks of a host wait for other hosts, whose own watchdogs report nothing");
  limit("hang_seconds_host", &O::hang_seconds_host, "tegcb",
        "end the job likewise when nothing is heard of another host for this long; 0: never");
}

void add_generate_fields(std::vector<OptionField>& t) {
  const auto generate = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "g", kNotOfTraining, help);
  };
  const auto named = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "gc", kNotOfTraining, help);
  };
  // How answers are found; of --sample_prompts too.
  const auto answering = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kGenerate, "gtc", kMayChange, help);
  };
  t.push_back(named("checkpoint_names", &O::checkpoint_names,
                    "answer with each of these models in turn, into one file (facet chat: with "
                    "one): checkpoints, runs (their newest one), exports, adapters, whole LLaVA "
                    "1.5 models, or directories with a pytorch_model.bin of DeepSpeed-VisualChat. "
                    "What such a directory says of the model stands. The two models of "
                    "--*_model_name_or_path are then needed for an adapter and a "
                    "pytorch_model.bin only, and for a checkpoint whose models have moved"));
  t.push_back(named("checkpoint_path", &O::checkpoint_path,
                    "directory that holds --checkpoint_names; without it they are paths")
                  .directory());
  t.push_back(
      generate("input", &O::input,
               "JSON {test: [[question, \"path path\"?], ...]}: image paths separated by "
               "blanks, or a list of paths; the questions of a test are the rounds of one "
               "conversation. Objects {\"question\", \"images\", \"answers\"} bring the right "
               "answers too, and OUTPUT.metrics.json says how good the model's are")
          .required("g")
          .file());
  t.push_back(generate("output", &O::output,
                       "CSV: test_name,image_path,question,answer; named *.jsonl: JSON Lines with "
                       "tokens, seconds and the reason for each answer's end too. A call that was "
                       "killed goes on where it was when it is given again")
                  .required("g")
                  .new_file());
  t.push_back(generate("csv", &O::csv,
                       "original: as batch_generation.py of DeepSpeed-VisualChat writes it, lines "
                       "end in CR LF and questions without an image stand in image_path too")
                  .one_of({"facet", "original"}));
  t.push_back(generate("compat_tool", &O::compat_tool,
                       "with --compat visualchat: the tool of DeepSpeed-VisualChat whose prompts "
                       "are asked, batch (batch_generation.py) or chat (chat.py), which number the "
                       "images of a round differently; auto: batch")
                  .one_of({"auto", "batch", "chat"}));
  t.push_back(answering("max_new_tokens", &O::max_new_tokens, "longest answer in tokens")
                  .in(1, 1 << 24)
                  .usually_given("gc"));
  t.push_back(answering("temperature", &O::temperature,
                        "0: always the most likely token; above 0: sample, more evenly the higher "
                        "it is")
                  .in(0, 1e3));
  t.push_back(answering("top_k", &O::top_k, "sample from the k most likely tokens; 0: from all")
                  .in(0, 1 << 24));
  t.push_back(answering("top_p", &O::top_p,
                        "sample from the most likely tokens that together reach this probability")
                  .in(0, 1));
  t.push_back(answering("repetition_penalty", &O::repetition_penalty,
                        "positive logits of tokens that stand in the conversation are divided by "
                        "it, negative ones multiplied; 1: none")
                  .in(0.01, 100));
  t.push_back(answering("stop_strings", &O::stop_strings,
                        "an answer ends before the first of these texts, besides at the end tokens "
                        "of the model's files"));
  t.push_back(
      generate("num_answers", &O::num_answers, "answers to each test, with draws of their own")
          .in(1, 1 << 20));
  t.push_back(
      generate("decode_batch", &O::decode_batch,
               "conversations answered at the same time, a token of each in one pass; 0: 8, "
               "or as many of them as there is memory for; 1: each by itself. Choices "
               "(--score) are scored one conversation after the other")
          .in(0, 256));
  t.push_back(generate("logprobs", &O::logprobs,
                       "the log-probability of each token of an answer, in JSON Lines"));
  t.push_back(generate("score", &O::score,
                       "answers nothing, but says of given answers, a list behind the images of "
                       "each question, how likely each is; the likeliest is the answer"));
  t.push_back(field("inference_tp_size", &O::inference_tp_size, Group::kGenerate, "gct", kMayChange,
                    "so many consecutive ranks hold the language model together, cut by heads "
                    "and columns, and answer together: for models that are too large for one. "
                    "facet chat: the number of all ranks. With --sample_prompts they copy their "
                    "parts before each round of questions")
                  .in(1, 1 << 20));
}

void add_chat_fields(std::vector<OptionField>& t) {
  const auto chat = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kChat, "c", kNotOfTraining, help);
  };
  t.push_back(chat("history", &O::history,
                   "save the conversations to this new file after each answer, as generate --input "
                   "reads them, and the answers to FILE.answers.jsonl")
                  .new_file()
                  .usually_given());
  t.push_back(
      chat("max_images", &O::max_images, "images of a conversation at most").in(0, 1 << 16));
}

void add_plan_fields(std::vector<OptionField>& t) {
  const auto plan = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kPlan, "p", kNotOfTraining, help);
  };
  t.push_back(field("ranks", &O::ranks, Group::kPlan, "pd", kNotOfTraining,
                    "ranks of the planned run; data-stats takes those it runs on by default")
                  .in(1, 1 << 20)
                  .usually_given());
  t.push_back(plan("memory", &O::memory,
                   "GiB available to a rank; a run that needs more is an error; 0: no limit")
                  .in(0, 1e9)
                  .usually_given());
  t.push_back(plan("average_text_tokens", &O::average_text_tokens,
                   "count operations on samples of this many text tokens; 0: on the longest "
                   "samples")
                  .in(0, 1 << 24));
  t.push_back(plan("average_images", &O::average_images,
                   "images per sample, together with --average_text_tokens")
                  .in(0, 1 << 16));
  t.push_back(plan("measured", &O::measured,
                   "output directory of an earlier run on such ranks: seconds a step and tokens a "
                   "second are planned from the speed in its loss_log.csv")
                  .directory());
}

void add_data_stats_fields(std::vector<OptionField>& t) {
  t.push_back(field("stats_svg", &O::stats_svg, Group::kDataStats, "d", kNotOfTraining,
                    "SVG file for the histogram of lengths; by default data_lengths.svg in "
                    "--output_dir, if that is given")
                  .new_file());
}

void add_bandwidth_fields(std::vector<OptionField>& t) {
  const auto bandwidth = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kBandwidth, "b", kNotOfTraining, help);
  };
  t.push_back(bandwidth("all_reduce_mib", &O::all_reduce_mib,
                        "sizes of the all-reduces, in MiB on each rank; a rank takes a little more "
                        "than three times the largest as memory")
                  .in(1.0 / 1024, 4096));
  t.push_back(bandwidth("repeats", &O::repeats,
                        "measure each so often, after one that does not count; the median is taken")
                  .in(1, 1 << 20));
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
  add_sample_fields(table);
  add_watchdog_fields(table);
  add_generate_fields(table);
  add_chat_fields(table);
  add_plan_fields(table);
  add_data_stats_fields(table);
  add_bandwidth_fields(table);
  return table;
}

}  // namespace

const std::vector<OptionField>& option_table() {
  static const std::vector<OptionField> kTable = make_table();
  return kTable;
}

const OptionField* find_option(const std::string& name) {
  for (const OptionField& field : option_table())
    if (name == field.name) return &field;
  return nullptr;
}

std::vector<std::string> option_names() {
  std::vector<std::string> names;
  for (const OptionField& f : option_table()) names.emplace_back(f.name);
  return names;
}

}  // namespace facet
