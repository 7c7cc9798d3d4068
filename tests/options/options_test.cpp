// The command line: all mistakes are reported at once, and old launch lines can still be read.
#include "options/options.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/check.h"

namespace facet {
namespace {

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

Options parse(const std::string& line) {
  return parse_options(Command::kTrain, words_of(line), 1).options;
}

// The message and code of the error that a line ends in.
struct Failure {
  ExitCode code = ExitCode::kOk;
  std::string text;
  bool says(const std::string& part) const { return text.find(part) != std::string::npos; }
};
Failure failure_of(Command command, const std::string& line, int64_t ranks = 1) {
  try {
    parse_options(command, words_of(line), ranks);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

const std::string kBare =
    "--lm_model_name_or_path lm --vision_model_name_or_path clip --output_dir out ";

TEST(Options, DefaultsAreTheOriginals) {
  const Options o = parse(kBare);
  EXPECT_EQ(o.data_path, "./data/");
  EXPECT_EQ(o.dataset_names, std::vector<std::string>{"minigpt4"});
  EXPECT_EQ(o.max_seq_len, 4096);
  EXPECT_EQ(o.learning_rate, 1e-3);
  EXPECT_EQ(o.num_train_epochs, 6);
  EXPECT_EQ(o.seed, 1234);
  EXPECT_EQ(o.lang_lora_module_name, "model.layers.");
  EXPECT_EQ(o.vis_lora_module_name, "encoder.layers.");
  EXPECT_EQ(o.precision, "fp32");
}

TEST(Options, MicroBatchesByTokensWeighEveryTokenAlikeAndAreNotRecorded) {
  const std::string line = kBare + "--tokens_per_micro_batch 512 ";
  EXPECT_TRUE(parse(line).by_tokens());
  EXPECT_FALSE(parse(kBare).by_tokens());
  for (const char* also : {"--loss_average micro_batch", "--compat visualchat", "--replay file"}) {
    const Failure f = failure_of(Command::kTrain, line + also);
    EXPECT_EQ(f.code, ExitCode::kConfig) << also;
    EXPECT_TRUE(f.says("--tokens_per_micro_batch")) << f.text;
  }
}

TEST(Options, DataStatsTakesTheLineOfARunAndTheRanksOfTheJob) {
  const std::string line = kBare + "--learning_rate 1 --dry_run --local_rank 0 ";
  const auto ranks_of = [](const std::string& words) {
    return parse_options(Command::kDataStats, words_of(words), 4).options.ranks;
  };
  EXPECT_EQ(ranks_of(line), 4);
  EXPECT_EQ(ranks_of(line + "--ranks 64"), 64);
  EXPECT_TRUE(failure_of(Command::kDataStats, line + "--replay file").says("reads data sets"));
  EXPECT_TRUE(failure_of(Command::kTrain, line + "--stats_svg file").says("of facet data-stats"));
  EXPECT_EQ(
      failure_of(Command::kDataStats, "--lm_model_name_or_path lm --vision_model_name_or_path clip")
          .code,
      ExitCode::kOk);  // without --output_dir
}

TEST(Options, CompatHasItsOwnFormOfAConversation) {
  EXPECT_EQ(parse(kBare).chat_template, "original");
  EXPECT_EQ(parse(kBare + "--chat_template chatml").chat_template, "chatml");
  const Failure f =
      failure_of(Command::kTrain, kBare + "--chat_template chatml --compat visualchat");
  EXPECT_EQ(f.code, ExitCode::kConfig);
  EXPECT_TRUE(f.says("--chat_template chatml")) << f.text;
}

TEST(Options, ReferenceLaunchLineReadsWordForWord) {
  const Failure f = failure_of(
      Command::kTrain,
      "--lm_model_name_or_path Llama-2-7b-hf --vision_model_name_or_path clip-vit-large-patch14 "
      "--vis_proj perceiver --precision bf16 --learning_rate 1e-3 "
      "--learning_rate_pretraining_components 1e-5 --weight_decay 0.01 --num_train_epochs 6 "
      "--per_device_train_batch_size 2 --gradient_accumulation_steps 4 --num_warmup_steps 0.03 "
      "--lr_scheduler_type cosine --lang_lora_dim 16 --lang_lora_module_name model.layers. "
      "--only_optimize_lora --dataset_names llava coco_caption --dataset_samples all all "
      "--output_dir ./output/ --enable_tensorboard");
  EXPECT_EQ(f.code, ExitCode::kOk) << f.text;
}

TEST(Options, OffloadOfParametersNeedsSlicesAndTheOptimizersOffload) {
  const auto code_of = [](const std::string& offload) {
    return failure_of(Command::kTrain,
                      "--lm_model_name_or_path lm --vision_model_name_or_path clip --output_dir "
                      "out --device " +
                          offload)
        .code;
  };
  EXPECT_EQ(code_of("cuda --offload_optimizer cpu"), ExitCode::kOk);
  EXPECT_EQ(code_of("cuda --offload_optimizer cpu --offload_param cpu --zero_stage 3"),
            ExitCode::kOk);
  EXPECT_EQ(code_of("cuda --offload_optimizer cpu --offload_param cpu --zero_stage 2"),
            ExitCode::kConfig);
  EXPECT_EQ(code_of("cuda --offload_param cpu --zero_stage 3"), ExitCode::kConfig);
  EXPECT_EQ(code_of("cpu --offload_param cpu"), ExitCode::kOk);
}

TEST(Options, AllMistakesAreReportedAtOnce) {
  const Failure f = failure_of(Command::kTrain,
                               "--vision_model_name_or_path clip --lerning_rate 3 --vis_proj mlp "
                               "--max_seq_len long --num_train_epochs 0 --seed 1 --seed 2 "
                               "--adam_betas 0.9 --output_dir --only_optimize_lora --unfreeze x. "
                               "--input q.json --precision bf8 --dataset_names ocr_vq");
  EXPECT_EQ(f.code, ExitCode::kUsage);
  for (const char* part :
       {"unknown option --lerning_rate; did you mean --learning_rate?",
        "--vis_proj: 'mlp' is none of baseline, vit, perceiver, mlp2x_gelu",
        "--max_seq_len: 'long' is not a whole number", "--num_train_epochs: 0 is not in 1 to",
        "--seed is given twice: '1' and '2'", "--adam_betas takes two values, not 1",
        "--output_dir: needs a value", "--only_optimize_lora freezes what --unfreeze would train",
        "--lm_model_name_or_path is missing", "--input is not an option of facet train",
        "--precision: 'bf8' is none of fp32, bf16, fp16",
        "--dataset_names: 'ocr_vq' is none of llava, llava_dial, coco_caption, minigpt4, aokvqa, "
        "ocr_vqa, otter_mimicit_cgd"})
    EXPECT_TRUE(f.says(part)) << part << "\nnot in\n" << f.text;
  EXPECT_FALSE(f.says("stray word '3'")) << f.text;
}

TEST(Options, WhatCudnnCannotComputeIsAMistake) {
  const std::string line = kBare + "--attention cudnn --precision ";
  EXPECT_EQ(parse(line + "bf16 --device cuda").attention, "cudnn");
  EXPECT_TRUE(failure_of(Command::kTrain, line + "bf16").says("give --device cuda"));
  EXPECT_TRUE(failure_of(Command::kTrain, line + "fp32 --device cuda").says("in bf16 and fp16"));
  const Failure f =
      failure_of(Command::kTrain, line + "fp16 --device cuda --enable_mmca_attention");
  EXPECT_EQ(f.code, ExitCode::kConfig);
  EXPECT_TRUE(f.says("--attention cudnn cannot attend to images and text apart")) << f.text;
}

TEST(Options, WhatJointAttentionCannotComputeIsAMistake) {
  const std::string line = kBare + "--attention_backward joint --precision ";
  EXPECT_EQ(parse(line + "bf16 --device cuda").attention_backward, "joint");
  EXPECT_TRUE(failure_of(Command::kTrain, line + "bf16").says("give --device cuda"));
  EXPECT_TRUE(failure_of(Command::kTrain, line + "fp32 --device cuda").says("in bf16 and fp16"));
  EXPECT_TRUE(failure_of(Command::kTrain, line + "fp16 --device cuda --attention cudnn")
                  .says("--attention cudnn takes cuDNN's"));
}

TEST(Options, WhatFusedLoraCannotComputeIsAMistake) {
  const std::string line = kBare + "--lora_products fused --precision ";
  EXPECT_EQ(parse(line + "bf16 --device cuda --lang_lora_dim 16").lora_products, "fused");
  EXPECT_TRUE(failure_of(Command::kTrain, line + "bf16").says("give --device cuda"));
  EXPECT_TRUE(failure_of(Command::kTrain, line + "fp32 --device cuda").says("in bf16 and fp16"));
  const Failure f =
      failure_of(Command::kTrain, line + "fp16 --device cuda --lang_lora_dim 8 --vis_lora_dim 4");
  EXPECT_EQ(f.code, ExitCode::kConfig);
  EXPECT_TRUE(f.says("ranks that are multiples of 8, not --vis_lora_dim 4")) << f.text;
  EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--lora_products timed --precision bf16")
                  .says("--lora_products timed computes on a GPU"));
}

TEST(Options, AMistypedHelpIsRecognized) {
  EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--hlep").says("did you mean --help?"));
}

TEST(Options, NumbersAreCheckedToTheLastLetter) {
  for (const char* bad :
       {"--seed 12x", "--seed -1", "--learning_rate nan", "--learning_rate 1e-3f", "--seed 1.5",
        "--seed 99999999999999999999", "--data_train_split_ratio 0", "--top_k", "--threads",
        "stray", "--seed=", "--num_warmup_steps 10.5", "--adam_betas 0.9 1",
        "--dataset_samples some", "--dataset_samples 1 2 3", "--dataset_names llava llava",
        "--dataset_names jsn:a", "--only_optimize_lora"})
    EXPECT_NE(failure_of(Command::kTrain, kBare + bad).code, ExitCode::kOk) << bad;
  EXPECT_EQ(parse(kBare + "--vision_feature_layer -2").vision_feature_layer, -2);
  EXPECT_EQ(parse(kBare + "--num_warmup_steps=0.03").num_warmup_steps, 0.03);
}

TEST(Options, CommandLineBeatsConfigFile) {
  const std::string path = ::testing::TempDir() + "options_test.cfg";
  std::ofstream(path) << "# a comment\n\nseed = 7\nweight_decay = 0.5\ndrop_class_token = true\n"
                      << "output_dir = a path with blanks\ndataset_names = llava coco_caption\n";
  const Options o = parse(
      "--lm_model_name_or_path lm --vision_model_name_or_path clip --seed 9 "
      "--drop_class_token false --config " +
      path);
  EXPECT_EQ(o.seed, 9);
  EXPECT_EQ(o.weight_decay, 0.5);
  EXPECT_FALSE(o.drop_class_token);
  EXPECT_EQ(o.output_dir, "a path with blanks");
  EXPECT_EQ(o.dataset_names, (std::vector<std::string>{"llava", "coco_caption"}));

  std::ofstream(path) << "sead = 7\nseed\nseed = x\n";
  const Failure f = failure_of(Command::kTrain, kBare + "--config " + path);
  EXPECT_TRUE(f.says(path + ":1: unknown option --sead; did you mean --seed?")) << f.text;
  EXPECT_TRUE(f.says(path + ":2: 'seed' is not name = value")) << f.text;
  EXPECT_TRUE(f.says("--seed: 'x' is not a whole number")) << f.text;
  std::remove(path.c_str());
}

// Whatever can't be read is an error, not a file without options; other mistakes are told beside
// it.
TEST(Options, AConfigFileThatCannotBeReadIsAMistake) {
  const std::string directory = ::testing::TempDir();
  for (const std::string& path : {directory, directory + "/none.cfg", std::string("/dev/null"),
                                  std::string("/proc/self/mem"), std::string("/dev/zero")}) {
    const Failure f = failure_of(Command::kTrain, kBare + "--sead 1 --config " + path);
    EXPECT_EQ(f.code, ExitCode::kUsage) << path;
    EXPECT_TRUE(f.says("2 mistakes")) << f.text;
    EXPECT_TRUE(f.says("--config " + path)) << f.text;
  }
  const std::string large = directory + "/large.cfg";
  std::ofstream(large) << std::string((16 << 20) + 1, '#');
  EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--config " + large).says("--config " + large));
  std::remove(large.c_str());
  const std::string fifo = directory + "/options_fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--config " + fifo).says("--config " + fifo));
  std::remove(fifo.c_str());
}

TEST(Options, ADeepSpeedFileThatCannotBeReadIsAMistake) {
  for (const std::string& path : {::testing::TempDir(), std::string("/dev/zero")})
    EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--deepspeed_config " + path).says(path));
}

// options.cfg has a line an option.
TEST(Options, ControlCharactersInAValueAreMistakes) {
  for (const char* value : {"a\nseed = 9", "a\x1b[2J", "\x7f"}) {
    std::vector<std::string> words = words_of(kBare);
    words.back() = value;  // of --output_dir
    try {
      parse_options(Command::kTrain, words, 1);
      ADD_FAILURE() << value;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("has a control character"), std::string::npos);
    }
  }
}

// Only as many mistakes are shown, and looked up, as somebody reads.
TEST(Options, EndlessMistakesCostLittleAndAreCounted) {
  const std::string path = ::testing::TempDir() + "options_many.cfg";
  {
    std::ofstream file(path);
    for (int i = 0; i < 200'000; ++i) file << "unknown_" << i << " = 1\n";
  }
  const Failure many = failure_of(Command::kTrain, kBare + "--config " + path);
  EXPECT_EQ(many.code, ExitCode::kUsage);
  EXPECT_TRUE(many.says("200000 mistakes"));
  EXPECT_TRUE(many.says(path + ":20: unknown option --unknown_19; did you mean --"));
  EXPECT_FALSE(many.says(path + ":21: "));
  EXPECT_TRUE(many.says("\n  and 199980 more"));

  std::ofstream(path) << std::string(10'000'000, 'x') << " = 1\nseed = " << std::string(5000, '9');
  const Failure large = failure_of(Command::kTrain, kBare + "--config " + path);
  EXPECT_TRUE(large.says("unknown option --xxx"));
  EXPECT_TRUE(large.says("is too large") || large.says(" ..."));
  EXPECT_LT(large.text.size(), 5000u);
  std::remove(path.c_str());

  std::string line = kBare;
  for (int i = 0; i < 20'000; ++i) line += " --u" + std::to_string(i);
  EXPECT_TRUE(failure_of(Command::kTrain, line).says("20006 words are too many"));
}

// So that a script can have a file of its own, which the user's beats.
TEST(Options, OfSeveralConfigFilesTheLastWins) {
  const std::string first = ::testing::TempDir() + "options_first.cfg";
  const std::string second = ::testing::TempDir() + "options_second.cfg";
  std::ofstream(first) << "seed = 1\nweight_decay = 0.5\nmax_steps = 3\n";
  std::ofstream(second) << "seed = 2\nweight_decay = 0.25\nmax_steps =\n";
  for (const std::string between : {" ", " --config ", " --seed 9 --config "}) {
    const Options o = parse(kBare + "--config " + first + between + second);
    EXPECT_EQ(o.seed, between.find("seed") == between.npos ? 2 : 9);
    EXPECT_EQ(o.weight_decay, 0.25);
    EXPECT_EQ(o.max_steps, 3) << "an empty value leaves what is there";
  }
  EXPECT_TRUE(failure_of(Command::kTrain, kBare + "--config").says("--config takes a file"));
  std::remove(first.c_str());
  std::remove(second.c_str());
}

TEST(Options, ResolvedConfigurationReadsBack) {
  const Options o = parse(kBare +
                          "--learning_rate 0.1234567890123456 --unfreeze a. b. "
                          "--dataset_names llava coco_caption --dataset_samples all 5 "
                          "--drop_class_token");
  const std::string path = ::testing::TempDir() + "options_resolved.cfg";
  const std::string echo = resolved_options(Command::kTrain, o);
  std::ofstream(path) << echo;
  EXPECT_EQ(resolved_options(Command::kTrain, parse("--config " + path)), echo);
  std::remove(path.c_str());
}

TEST(Options, GenerationChecksItsDraws) {
  const std::string bare =
      "--lm_model_name_or_path lm --vision_model_name_or_path clip --input q.json --output a.csv ";
  EXPECT_EQ(failure_of(Command::kGenerate, bare).code, ExitCode::kOk);
  EXPECT_TRUE(failure_of(Command::kGenerate, bare + "--top_k 5").says("without --temperature"));
  EXPECT_EQ(failure_of(Command::kGenerate, bare + "--top_k 5 --temperature 0.7").code,
            ExitCode::kOk);
  EXPECT_TRUE(failure_of(Command::kGenerate, bare + "--learning_rate 1")
                  .says("--learning_rate is not an option of facet generate, but of facet train, "
                        "facet plan"));
}

TEST(Options, RanksOfAGroupDivideTheRanks) {
  const std::string bare =
      "--lm_model_name_or_path lm --vision_model_name_or_path clip --input q.json --output a.csv ";
  EXPECT_EQ(failure_of(Command::kGenerate, bare + "--inference_tp_size 2", 4).code, ExitCode::kOk);
  EXPECT_TRUE(failure_of(Command::kGenerate, bare + "--inference_tp_size 2", 3)
                  .says("--inference_tp_size 2: 3 ranks are no groups of 2"));
  EXPECT_TRUE(failure_of(Command::kGenerate, bare + "--inference_tp_size 4", 2)
                  .says("--inference_tp_size 4: 2 ranks are no groups of 4"));
  EXPECT_EQ(failure_of(Command::kGenerate, bare + "--inference_tp_size 0", 2).code,
            ExitCode::kUsage);
}

TEST(Options, AllRanksOfAChatAreOneGroup) {
  const std::string bare = "--lm_model_name_or_path lm --vision_model_name_or_path clip ";
  EXPECT_EQ(failure_of(Command::kChat, bare).code, ExitCode::kOk);
  EXPECT_EQ(failure_of(Command::kChat, bare + "--inference_tp_size 4", 4).code, ExitCode::kOk);
  EXPECT_TRUE(failure_of(Command::kChat, bare + "--inference_tp_size 2", 4)
                  .says("--inference_tp_size 2 is not the number of ranks, 4: all ranks of facet "
                        "chat hold the model together; give --inference_tp_size 4, or start 2 by "
                        "mpirun -n 2"));
  EXPECT_TRUE(failure_of(Command::kChat, bare, 2).says("give --inference_tp_size 2, or start 1"));
}

// Launch scripts are written against these names: taking one away breaks them.
TEST(Options, NamesAreFrozen) {
  const std::string expected =
      "lm_model_name_or_path vision_model_name_or_path vis_proj projection adapter "
      "enable_mmca_attention max_seq_len image_size image_aspect_ratio vision_feature_layer "
      "drop_class_token "
      "vision_image_by_image compat lang_lora_dim "
      "lang_lora_alpha lang_lora_rslora lang_lora_dora lang_lora_module_name vis_lora_dim "
      "vis_lora_alpha "
      "vis_lora_rslora vis_lora_dora vis_lora_module_name "
      "only_optimize_lora unfreeze freeze data_path image_root dataset_names dataset_samples "
      "dataset_concatenate_samples dataset_weights data_config data_train_split_ratio "
      "max_num_image_per_sample "
      "system_prompt_file chat_template caption_questions_file why_phrases_file bad_samples "
      "max_bad_fraction "
      "max_image_pixels "
      "allow_outside_images "
      "num_workers feature_cache feature_cache_gib replay dump_batches data_debug_path "
      "num_train_epochs max_steps "
      "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
      "tokens_per_micro_batch loss_average seed eval_interval max_bad_steps learning_rate "
      "learning_rate_pretraining_components lora_plus_ratio weight_decay lr_scheduler_type "
      "num_warmup_steps "
      "adam_betas adam_eps gradient_clipping loss_scale initial_scale_power loss_scale_window "
      "hysteresis min_loss_scale zero_stage reduce_every_micro_batch precision "
      "gradient_checkpointing device device_collectives "
      "product_algorithms attention attention_backward lora_products threads "
      "local_rank deepspeed_config stage3_param_persistence_threshold stage3_max_live_parameters "
      "stage3_prefetch_bucket_size reduce_bucket_size overlap_comm communication_data_type "
      "offload_optimizer offload_param output_dir steps_per_print dry_run check_all_samples "
      "replay_step "
      "save_interval "
      "save_minutes keep_last keep_best export export_every keep_exports export_dtype "
      "to checkpoint_io async_checkpoint max_hours inject "
      "wall_clock_breakdown peak_tflops straggler_interval enable_tensorboard tensorboard_path "
      "tensorboard_job_name "
      "sample_prompts sample_interval max_out_tokens pin_parameters tp_gather_partition_size "
      "release_inference_cache "
      "hang_seconds_load hang_seconds_data hang_seconds_compute "
      "hang_seconds_evaluate hang_seconds_save hang_seconds_collective hang_seconds_host "
      "checkpoint_names checkpoint_path input output csv compat_tool max_new_tokens temperature "
      "top_k top_p repetition_penalty stop_strings num_answers decode_batch logprobs score "
      "inference_tp_size history max_images "
      "ranks memory average_text_tokens average_images measured stats_svg all_reduce_mib "
      "repeats";
  std::string names;
  for (const std::string& name : option_names()) names += (names.empty() ? "" : " ") + name;
  EXPECT_EQ(names, expected);
}

}  // namespace
}  // namespace facet
