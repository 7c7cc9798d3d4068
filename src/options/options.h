// The command line. Options holds every choice of a run with its default. The table of fields,
// whose groups are the files option_group_*.cpp, gives each one its name, type, range, choices,
// group and help text; the parser, --help, the manual page, completion (options/help.h), the
// checks, the printed configuration and --config FILE all follow from it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "data/image.h"

namespace facet {

enum class Command : uint8_t {
  kTrain,
  kEvaluate,
  kGenerate,
  kChat,
  kPlan,
  kDataStats,
  kBandwidth,
  kCacheFeatures,
  kExport
};
const char* name_of(Command command);
std::optional<Command> command_from_name(const std::string& name);
std::vector<Command> all_commands();

// A number of 0 means "not limited", "as in the file" or "never" where the help text says so; an
// empty path means "none".
struct Options {
  // Model
  std::string lm_model_name_or_path;      // directory with config.json, tokenizer and weights;
                                          // a name of the hub has become its snapshot's
  std::string vision_model_name_or_path;  // the same, and preprocessor_config.json
  std::string vis_proj = "baseline";      // baseline, vit, perceiver, mlp2x_gelu
  std::string projection;                 // exported projection and lang_embed to start from
  std::string adapter;                    // directory of LoRA and what else was trained with it
  bool enable_mmca_attention = false;
  int64_t max_seq_len = 4096;
  int64_t image_size = 0;
  std::string image_aspect_ratio = "auto";  // auto, pad
  int64_t vision_feature_layer = -1;
  bool drop_class_token = false;
  bool vision_image_by_image = false;
  std::string compat = "off";  // off, visualchat

  // What is trained
  int64_t lang_lora_dim = 0;
  double lang_lora_alpha = 1;
  bool lang_lora_rslora = false;
  bool lang_lora_dora = false;
  std::string lang_lora_module_name = "model.layers.";
  int64_t vis_lora_dim = 0;
  double vis_lora_alpha = 1;
  bool vis_lora_rslora = false;
  bool vis_lora_dora = false;
  std::string vis_lora_module_name = "encoder.layers.";
  bool only_optimize_lora = false;
  std::vector<std::string> unfreeze;  // prefixes of parameter names
  std::vector<std::string> freeze;

  // Data
  std::string data_path = "./data/";
  std::string data_debug_path;
  std::string image_root;
  std::vector<std::string> dataset_names = {"minigpt4"};
  std::vector<std::string> dataset_samples = {
      "all"};  // "all" or a number; one applies to all names
  std::vector<int64_t> dataset_concatenate_samples = {1};
  std::vector<double> dataset_weights;  // none: by size
  std::string data_config;              // a file with all of these
  double data_train_split_ratio = 0.9;
  int64_t max_num_image_per_sample = 8;
  std::string system_prompt_file;
  std::string chat_template = "original";  // chat_template.h
  std::string caption_questions_file;
  std::string why_phrases_file;
  std::string bad_samples = "error";  // error, skip
  double max_bad_fraction = 0.01;
  int64_t max_image_pixels = kDefaultMaxImagePixels;
  bool allow_outside_images = false;  // absolute paths and ".." in annotations
  int64_t num_workers = 2;
  std::string feature_cache;     // directory of vision features; "": none are kept
  double feature_cache_gib = 0;  // that it may hold; 0: as much as the disk
  std::string replay;            // HDF5 file of recorded micro-batches instead of the data sets
  int64_t dump_batches = 0;      // write that many steps as such a file

  // Steps
  int64_t num_train_epochs = 6;
  int64_t max_steps = 0;
  int64_t per_device_train_batch_size = 2;
  int64_t per_device_eval_batch_size = 2;
  int64_t tokens_per_micro_batch = 0;  // 0: micro-batches have a number of samples
  int64_t gradient_accumulation_steps = 1;
  std::string loss_average = "global";  // global, micro_batch
  int64_t seed = 1234;
  int64_t eval_interval = 0;
  int64_t max_bad_steps = 10;

  // Optimizer
  double learning_rate = 1e-3;
  double learning_rate_pretraining_components = 0;
  double lora_plus_ratio = 1;
  double weight_decay = 0;
  std::string lr_scheduler_type = "cosine";
  double num_warmup_steps = 0;  // <= 1: a fraction of all steps
  std::vector<double> adam_betas = {0.9, 0.95};
  double adam_eps = 1e-6;
  double gradient_clipping = 1;
  double loss_scale = 0;             // of fp16; 0: adjusted after overflows
  int64_t initial_scale_power = 16;  // then it starts at 2 to this
  int64_t loss_scale_window = 100;
  int64_t hysteresis = 2;
  double min_loss_scale = 1;

  // Ranks, precision, memory
  int64_t zero_stage = 0;
  bool reduce_every_micro_batch = false;
  // DeepSpeed-VisualChat's default is fp16; fp32 is fastest on a CPU.
  std::string precision = "fp32";
  bool gradient_checkpointing = false;
  std::string device = "cpu";                // cpu, cuda
  std::string device_collectives = "auto";   // with a GPU: auto, nccl, mpi
  std::string product_algorithms = "first";  // with a GPU, of cuBLASLt's: first, timed
  std::string attention = "facet";           // with a GPU: facet, cudnn
  // With a GPU: separate, joint.
  std::string attention_backward = "separate";
  std::string lora_products = "separate";  // with a GPU: separate, fused, timed
  bool by_tokens() const { return tokens_per_micro_batch > 0; }
  // Samples of a step divided by the ranks.
  int64_t samples_of_rank() const {
    return per_device_train_batch_size * gradient_accumulation_steps;
  }
  bool on_gpu() const { return device == "cuda"; }
  int64_t threads = 0;      // of each rank
  int64_t local_rank = -1;  // accepted for old launch scripts, and ignored
  std::string deepspeed_config;
  int64_t stage3_param_persistence_threshold = 10'000;  // elements, as the next three
  int64_t stage3_max_live_parameters = 30'000'000;
  int64_t stage3_prefetch_bucket_size = 0;
  int64_t reduce_bucket_size = 0;  // 0: by device (engine_options)
  bool overlap_comm = false;
  std::string communication_data_type = "fp32";  // fp32, bf16, fp16
  std::string offload_optimizer = "none";        // none, cpu
  std::string offload_param = "none";
  // On CPUs everything is on the host anyway.
  bool offloads_optimizer() const { return on_gpu() && offload_optimizer == "cpu"; }

  // Output
  std::string output_dir;
  int64_t steps_per_print = 10;
  int64_t save_interval = 0;
  double save_minutes = 30;
  int64_t keep_last = 2;
  bool keep_best = false;
  std::string export_kind = "auto";     // auto, full, adapter, none
  int64_t export_every = 1;             // epochs
  int64_t keep_exports = 0;             // the newest; 0: all
  std::string export_dtype = "auto";    // auto, fp32, bf16, fp16
  std::string checkpoint_io = "posix";  // posix, collective
  bool async_checkpoint = false;
  double max_hours = 0;
  std::string inject;  // see job/fault_injection.h
  bool wall_clock_breakdown = false;
  double peak_tflops = 0;  // of a rank; 0: what its GPU says, if it has one
  int64_t straggler_interval = 200;
  double hang_seconds_load = 1800;
  double hang_seconds_data = 600;
  double hang_seconds_compute = 600;
  double hang_seconds_evaluate = 600;
  double hang_seconds_save = 1800;
  double hang_seconds_collective = 3600;
  double hang_seconds_host = 30;
  bool enable_tensorboard = false;
  std::string tensorboard_path;  // "": output_dir
  std::string tensorboard_job_name = "tb_logging";
  std::string sample_prompts;            // questions as --input has them; "": none are asked
  int64_t sample_interval = 0;           // steps; 0: after each epoch
  int64_t max_out_tokens = 0;            // of a conversation; 0: max_seq_len
  bool pin_parameters = false;           // stage 3: gather once for all answers
  int64_t tp_gather_partition_size = 8;  // stage 3: layers gathered at a time
  bool release_inference_cache = false;
  bool dry_run = false;
  bool check_all_samples = false;
  int64_t replay_step = 0;  // 0: none

  // Generate; how answers are found also serves sample_prompts and chat
  std::string checkpoint_path;                // directory of --checkpoint_names
  std::vector<std::string> checkpoint_names;  // models to answer with, one after the other
  std::string input;                          // JSON {test: [[question, images?, choices?], ...]}
  std::string output;                         // CSV or JSON Lines
  std::string csv = "facet";
  std::string compat_tool = "auto";  // batch, chat; auto: that of the command
  int64_t max_new_tokens = 128;
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;
  double top_p = 1;
  double repetition_penalty = 1;
  std::vector<std::string> stop_strings;
  int64_t num_answers = 1;
  int64_t decode_batch = 0;
  bool logprobs = false;
  bool score = false;
  int64_t inference_tp_size = 1;  // ranks that hold the decoder together

  // Chat
  std::string history;  // JSON as of `input`; the answers lie beside it
  int64_t max_images = 8;

  // Export
  std::string to;  // directory that does not exist yet

  // Plan
  int64_t ranks = 1;  // of data-stats: those it runs on, unless given
  double memory = 0;  // GiB of a rank
  int64_t average_text_tokens = 0;
  int64_t average_images = 0;
  std::string measured;  // output directory of a run whose speed counts

  // Data-stats
  std::string stats_svg;  // "": in output_dir

  // Bandwidth
  std::vector<double> all_reduce_mib = {1, 8, 64};
  int64_t repeats = 5;

  bool visualchat() const { return compat == "visualchat"; }
};

struct ParsedOptions {
  Options options;
  std::vector<std::string> notes;  // lines to be printed: what was overridden, what has no effect
  std::set<std::string> given;     // names of the options on the command line and in --config
};

// Reads the words after the subcommand, and the files of --config and --deepspeed_config where they
// name one: defaults < --config < --deepspeed_config < command line. train_batch_size is divided by
// `ranks`; a plan has its own --ranks, and notes what this version does not have yet instead of
// refusing it; data-stats takes `ranks` for --ranks unless that is given. All mistakes go into ONE
// Error: kUsage for words that can't be read, kConfig for choices that contradict each other or
// that this version does not have yet.
ParsedOptions parse_options(Command command, const std::vector<std::string>& words, int64_t ranks);

// Directories and files that the options name must exist: one Error(kMissingInput) lists those that
// do not.
void check_paths(Command command, const Options& options);

// All choices as lines "name = value", which --config reads back. Values from --deepspeed_config
// are in the lines of the options they set; the file itself is named in a comment only, so that a
// stored configuration needs no other file.
std::string resolved_options(Command command, const Options& options);

// The options of a training run from such lines; `where` is their place, for messages. Names that
// they lack, as those of an older version do, have their defaults. kUsage, kConfig.
Options options_of_run(const std::string& resolved, const std::string& where);

// Every option of the program, in the order of the table.
std::vector<std::string> option_names();

}  // namespace facet
