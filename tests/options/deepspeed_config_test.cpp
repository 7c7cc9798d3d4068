// --deepspeed_config: DeepSpeed's files mean the same here as there, and what can't be done is
// reported.
#include "options/deepspeed_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/check.h"
#include "options/option_table.h"

namespace facet {
namespace {

// What DeepSpeed-VisualChat hands to DeepSpeed on 8 ranks with 2 samples a micro-batch, 4
// micro-batches a step and TensorBoard; the arguments are what its launch line chooses.
std::string original(const std::string& fp16, const std::string& bf16, int stage,
                     const std::string& device = "none") {
  return R"({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 2, "steps_per_print": 10,
    "zero_optimization": {"stage": )" +
         std::to_string(stage) + R"(, "offload_param": {"device": ")" + device +
         R"("}, "offload_optimizer": {"device": ")" + device + R"("},
      "stage3_param_persistence_threshold": 1e4, "stage3_max_live_parameters": 3e7,
      "stage3_prefetch_bucket_size": 0, "memory_efficient_linear": false},
    "zero_allow_untested_optimizer": true, "zero_force_ds_cpu_optimizer": false,
    "fp16": {"enabled": )" +
         fp16 + R"(, "loss_scale_window": 100}, "bf16": {"enabled": )" + bf16 + R"(},
    "gradient_clipping": 1.0, "prescale_gradients": false, "wall_clock_breakdown": false,
    "hybrid_engine": {"enabled": false, "max_out_tokens": 512, "inference_tp_size": 1,
      "release_inference_cache": false, "pin_parameters": true, "tp_gather_partition_size": 8},
    "tensorboard": {"enabled": true, "output_path": "./output/", "job_name": "tb_logging"}})";
}

class DeepSpeedConfigTest : public ::testing::Test {
 protected:
  void TearDown() override { std::remove(path_.c_str()); }

  std::vector<std::string> words(const std::string& json, const std::string& line) {
    std::ofstream(path_) << json;
    std::istringstream stream(
        "--lm_model_name_or_path lm --vision_model_name_or_path clip --output_dir output "
        "--deepspeed_config " +
        path_ + " " + line);
    std::vector<std::string> list;
    for (std::string word; stream >> word;) list.push_back(word);
    return list;
  }
  ParsedOptions parse(const std::string& json, int64_t ranks = 1, const std::string& line = "") {
    return parse_options(Command::kTrain, words(json, line), ranks);
  }
  // What is wrong with the file; "" when nothing is.
  std::string mistake(const std::string& json, int64_t ranks = 1, const std::string& line = "") {
    try {
      parse_options(Command::kTrain, words(json, line), ranks);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig) << error.what();
      return error.what();
    }
    return "";
  }
  void expect_mistake(const std::string& json, const std::string& part, int64_t ranks = 1,
                      const std::string& line = "") {
    const std::string text = mistake(json, ranks, line);
    EXPECT_NE(text.find(part), std::string::npos) << json << "\n" << part << "\nnot in\n" << text;
  }
  static bool has_note(const ParsedOptions& parsed, const std::string& part) {
    for (const std::string& note : parsed.notes)
      if (note.find(part) != std::string::npos) return true;
    return false;
  }

  const std::string path_ = ::testing::TempDir() + "deepspeed_config_test.json";
};

TEST_F(DeepSpeedConfigTest, TheOriginalsOwnConfigurationIsUnderstood) {
  const DeepSpeedConfig config = [&] {
    words(original("true", "false", 2), "");
    return read_deepspeed_config(path_);
  }();
  EXPECT_TRUE(config.mistakes.empty()) << config.mistakes[0];
  EXPECT_TRUE(config.unbuilt.empty()) << config.unbuilt[0].choice;
  Options options;
  options.output_dir = "output";
  const DeepSpeedMerge merge = merge_deepspeed_config(config, {}, 8, options);
  EXPECT_TRUE(merge.mistakes.empty());
  EXPECT_TRUE(merge.unbuilt.empty());
  EXPECT_EQ(options.precision, "fp16");
  EXPECT_EQ(options.zero_stage, 2);
  EXPECT_EQ(options.per_device_train_batch_size, 2);
  EXPECT_EQ(options.gradient_accumulation_steps, 4);
  EXPECT_EQ(options.stage3_max_live_parameters, 30'000'000);
  EXPECT_EQ(options.stage3_param_persistence_threshold, 10'000);
  EXPECT_EQ(options.stage3_prefetch_bucket_size, 0);
  EXPECT_TRUE(options.enable_tensorboard);
  EXPECT_EQ(options.tensorboard_path, "./output/");
  EXPECT_EQ(options.tensorboard_job_name, "tb_logging");
  EXPECT_FALSE(options.wall_clock_breakdown);
  ASSERT_EQ(merge.notes.size(), 1u);
  for (const char* key :
       {"zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "memory_efficient_linear"})
    EXPECT_NE(merge.notes[0].find(key), std::string::npos) << key;
  EXPECT_EQ(mistake(original("true", "false", 2, "cpu"), 8,
                    "--precision fp32 --zero_stage 0 --enable_tensorboard false"),
            "");
}

TEST_F(DeepSpeedConfigTest, EndlessUnknownKeysCostLittle) {
  std::string json = "{\"" + std::string(100'000, 'x') + "\": 1";
  for (int i = 0; i < 100'000; ++i) json += ", \"zero_optimizatio." + std::to_string(i) + "\": 1";
  const std::string text = mistake(json + "}");
  EXPECT_NE(text.find("did you mean"), std::string::npos);
  EXPECT_NE(text.find("100001 mistakes"), std::string::npos) << text.substr(0, 200);
  EXPECT_LT(text.size(), 10'000u);
}

TEST_F(DeepSpeedConfigTest, HowGradientsAreReduced) {
  const Options options = parse(R"({"communication_data_type": "bf16",
                "zero_optimization": {"reduce_bucket_size": 5e8, "overlap_comm": true}})")
                              .options;
  EXPECT_EQ(options.reduce_bucket_size, 500'000'000);
  EXPECT_TRUE(options.overlap_comm);
  EXPECT_EQ(options.communication_data_type, "bf16");
}

TEST_F(DeepSpeedConfigTest, TheThreePrecisions) {
  const auto precision = [&](const char* fp16, const char* bf16) {
    words(original(fp16, bf16, 0), "");
    Options options;
    options.precision = "?";
    merge_deepspeed_config(read_deepspeed_config(path_), {}, 8, options);
    return options.precision;
  };
  EXPECT_EQ(precision("true", "false"), "fp16");
  EXPECT_EQ(precision("false", "true"), "bf16");
  EXPECT_EQ(precision("false", "false"), "fp32");
  expect_mistake(original("true", "true", 0), "fp16.enabled and bf16.enabled are both true", 8);
  EXPECT_EQ(parse(R"({"steps_per_print": 1})").options.precision, Options{}.precision);
}

TEST_F(DeepSpeedConfigTest, CommandLineBeatsFileWithOneLineEach) {
  const std::string json = R"({"zero_optimization": {"stage": 3}, "gradient_clipping": 0.5,
    "bf16": {"enabled": true}, "steps_per_print": 7})";
  const ParsedOptions parsed =
      parse(json, 1, "--zero_stage 0 --precision fp32 --steps_per_print 7 --learning_rate 2");
  EXPECT_EQ(parsed.options.zero_stage, 0);
  EXPECT_EQ(parsed.options.precision, "fp32");
  EXPECT_EQ(parsed.options.gradient_clipping, 0.5);
  EXPECT_EQ(parsed.options.steps_per_print, 7);
  EXPECT_EQ(parsed.options.learning_rate, 2);
  EXPECT_TRUE(
      has_note(parsed, "--zero_stage 0 of the command line beats zero_optimization.stage = 3"));
  EXPECT_TRUE(has_note(parsed, "--precision fp32 of the command line beats bf16.enabled = bf16"));
  EXPECT_EQ(parsed.notes.size(), 2u);
}

TEST_F(DeepSpeedConfigTest, FileBeatsConfigFile) {
  const std::string cfg = ::testing::TempDir() + "deepspeed_config_test.cfg";
  std::ofstream(cfg) << "steps_per_print = 3\nseed = 5\n";
  const ParsedOptions parsed = parse(R"({"steps_per_print": 4})", 1, "--config " + cfg);
  EXPECT_EQ(parsed.options.steps_per_print, 4);
  EXPECT_EQ(parsed.options.seed, 5);
  std::remove(cfg.c_str());
}

// A stored configuration needs neither the file nor the same number of ranks.
TEST_F(DeepSpeedConfigTest, StoredConfigurationReadsBackWithoutTheFile) {
  const Options options =
      parse(R"({"train_batch_size": 24, "gradient_clipping": 0.25})", 4).options;
  EXPECT_EQ(options.per_device_train_batch_size, 6);
  const std::string cfg = ::testing::TempDir() + "deepspeed_config_stored.cfg";
  const std::string stored = resolved_options(Command::kTrain, options);
  EXPECT_NE(stored.find("# deepspeed_config = " + path_), std::string::npos) << stored;
  std::ofstream(cfg) << stored;
  std::remove(path_.c_str());
  const Options read = parse_options(Command::kTrain, {"--config", cfg}, 3).options;
  EXPECT_EQ(read.per_device_train_batch_size, 6);
  EXPECT_EQ(read.gradient_accumulation_steps, 1);
  EXPECT_EQ(read.gradient_clipping, 0.25);
  std::remove(cfg.c_str());
}

TEST_F(DeepSpeedConfigTest, UnknownKeysAreErrorsAtAnyDepthAndAllAreReported) {
  const std::string text = mistake(R"({"gradient_cliping": 1, "zero_optimisation": {},
    "fp16": {"enable": true}, "stage": 2, "zero_optimization": {"offload_param": {"devise": "cpu"},
    "stage": "two"}, "steps_per_print": 1.5, "bf16": true, "optimizer": {"type": "Adam"}})");
  for (const char* part : {"unknown key gradient_cliping; did you mean gradient_clipping?",
                           "unknown key zero_optimisation; did you mean zero_optimization?",
                           "unknown key fp16.enable; did you mean fp16.enabled?",
                           "unknown key stage; did you mean zero_optimization.stage?",
                           "unknown key zero_optimization.offload_param.devise; did you mean "
                           "zero_optimization.offload_param.device?",
                           "zero_optimization.stage: expected a number, found a string",
                           "steps_per_print: 1.5 is not a whole number", "bf16: expected an object",
                           "optimizer is given by --learning_rate"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nnot in\n" << text;
}

TEST_F(DeepSpeedConfigTest, WhatIsNoJsonIsRefused) {
  expect_mistake(R"({"steps_per_print": 1, "steps_per_print": 2})", "steps_per_print");
  expect_mistake("{\"steps_per_print\": 1 // often\n}", "not valid JSON at line 1");
  expect_mistake("[1]", "expected an object");
  expect_mistake("", path_);
  expect_mistake(R"({"zero_optimization": {"stage": 4}})", "zero_optimization.stage: 4 is not in");
  expect_mistake(R"({"zero_optimization": {"offload_param": {"device": "nvme"}}})",
                 "'nvme' is none of none, cpu");
}

TEST_F(DeepSpeedConfigTest, UnbuiltKeysJoinTheOneError) {
  const std::string text = mistake(
      R"({"zero_optimization": {"stage3_prefetch_bucket_size": 5e7},
          "fp16": {"enabled": true, "hysteresis": 5, "fp16_master_weights_and_grads": true}})");
  EXPECT_NE(text.find("not supported yet in this version, leave out:"), std::string::npos);
  EXPECT_NE(text.find("fp16.fp16_master_weights_and_grads = true (here it is false)"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("hysteresis"), std::string::npos) << text;
  EXPECT_EQ(text.find("stage3_"), std::string::npos) << text;
  EXPECT_NE(mistake(R"({"fp16": {"enabled": true, "consecutive_hysteresis": true}})")
                .find("fp16.consecutive_hysteresis = true"),
            std::string::npos);
}

TEST_F(DeepSpeedConfigTest, TheHybridEngineIsOfAnswersWhileTraining) {
  const std::string json = R"({"hybrid_engine": {"enabled": true, "max_out_tokens": 512,
      "inference_tp_size": 1, "release_inference_cache": true, "pin_parameters": true,
      "tp_gather_partition_size": 4}, "zero_optimization": {"stage": 3}})";
  const ParsedOptions asking = parse(json, 1, "--sample_prompts q.json");
  EXPECT_EQ(asking.options.max_out_tokens, 512);
  EXPECT_TRUE(asking.options.release_inference_cache);
  EXPECT_TRUE(asking.options.pin_parameters);
  EXPECT_EQ(asking.options.tp_gather_partition_size, 4);
  EXPECT_FALSE(has_note(asking, "hybrid_engine.enabled"));
  EXPECT_TRUE(has_note(asking, "--tp_gather_partition_size has no effect: --pin_parameters"));
  const ParsedOptions off = parse(R"({"hybrid_engine": {"enabled": false, "max_out_tokens": 512,
      "inference_tp_size": 4, "pin_parameters": true}})",
                                  1, "--sample_prompts q.json");
  EXPECT_EQ(off.options.max_out_tokens, 0);
  EXPECT_FALSE(off.options.pin_parameters);
  EXPECT_TRUE(has_note(off,
                       "without a meaning in this program: hybrid_engine.enabled, "
                       "hybrid_engine.max_out_tokens"));
  expect_mistake(R"({"hybrid_engine": {"enabled": true, "inference_tp_size": 2}})",
                 "--inference_tp_size 2: 3 ranks are no groups of 2", 3, "--sample_prompts q.json");
  EXPECT_TRUE(has_note(parse(R"({"hybrid_engine": {"enabled": true, "inference_tp_size": 2}})", 2,
                             "--sample_prompts q.json --zero_stage 3 --pin_parameters"),
                       "--pin_parameters has no effect: with --inference_tp_size"));
  EXPECT_TRUE(has_note(parse(R"({"hybrid_engine": {"enabled": true, "inference_tp_size": 2}})", 3),
                       "--inference_tp_size has no effect: it belongs to --sample_prompts"));
  const ParsedOptions idle = parse(json);
  EXPECT_TRUE(has_note(idle, "hybrid_engine.enabled changes nothing"));
  EXPECT_TRUE(has_note(idle, "--max_out_tokens has no effect: it belongs to --sample_prompts"));
  EXPECT_TRUE(has_note(parse("{}", 1, "--sample_prompts q.json --pin_parameters"),
                       "--pin_parameters has no effect: it belongs to --zero_stage 3"));
  expect_mistake("{}", "without --temperature above 0", 1, "--sample_prompts q.json --top_k 3");
}

TEST_F(DeepSpeedConfigTest, TheLossScaleFollowsTheFile) {
  const Options o = parse(R"({"fp16": {"enabled": true, "loss_scale": 0, "hysteresis": 3,
    "initial_scale_power": 8, "loss_scale_window": 50, "min_loss_scale": 0.25}})")
                        .options;
  EXPECT_EQ(o.precision, "fp16");
  EXPECT_EQ(o.loss_scale, 0);
  EXPECT_EQ(o.initial_scale_power, 8);
  EXPECT_EQ(o.loss_scale_window, 50);
  EXPECT_EQ(o.hysteresis, 3);
  EXPECT_EQ(o.min_loss_scale, 0.25);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true, "loss_scale": 128}})").options.loss_scale, 128);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true}})", 1, "--hysteresis 4").options.hysteresis, 4);
  const ParsedOptions idle = parse(R"({"bf16": {"enabled": true}, "fp16": {"hysteresis": 3}})");
  EXPECT_TRUE(has_note(idle, "--hysteresis has no effect: only --precision fp16 scales the loss"));
  EXPECT_TRUE(has_note(parse(R"({"fp16": {"enabled": true, "loss_scale": 128, "hysteresis": 3}})"),
                       "--hysteresis has no effect: --loss_scale fixes the scale"));
  // The limits of a fixed scale mean nothing.
  parse(R"({"bf16": {"enabled": true}, "fp16": {"enabled": false, "min_loss_scale": 0}})");
  expect_mistake(R"({"fp16": {"enabled": true, "initial_scale_power": 2, "min_loss_scale": 8}})",
                 "--min_loss_scale 8 is more than --initial_scale_power 2 begins with");
  expect_mistake(R"({"fp16": {"enabled": true, "hysteresis": 0}})", "fp16.hysteresis: 0 is not in");
}

TEST_F(DeepSpeedConfigTest, ChoicesOfOtherStagesAreReportedToHaveNoEffect) {
  EXPECT_TRUE(has_note(parse(R"({"zero_optimization": {"stage": 2,
                              "stage3_max_live_parameters": 7}})"),
                       "--stage3_max_live_parameters has no effect: it belongs to --zero_stage 3"));
  EXPECT_TRUE(
      has_note(parse("{}", 1, "--zero_stage 2 --reduce_every_micro_batch"),
               "--reduce_every_micro_batch has no effect: --zero_stage 2 and 3 do so anyway"));
}

TEST_F(DeepSpeedConfigTest, ChoicesOfLoraWithoutLoraAreReportedToHaveNoEffect) {
  const std::string all =
      "--lang_lora_rslora --vis_lora_rslora --lang_lora_dora --vis_lora_dora --lora_plus_ratio 2";
  const ParsedOptions none = parse("{}", 1, all),
                      vision = parse("{}", 1, all + " --vis_lora_dim 4");
  EXPECT_TRUE(has_note(none, "--vis_lora_rslora has no effect: it belongs to --vis_lora_dim"));
  EXPECT_TRUE(has_note(none, "--vis_lora_dora has no effect: it belongs to --vis_lora_dim"));
  EXPECT_TRUE(has_note(none, "--lora_plus_ratio has no effect"));
  EXPECT_TRUE(has_note(vision, "--lang_lora_rslora has no effect: it belongs to --lang_lora_dim"));
  EXPECT_FALSE(has_note(vision, "--vis_lora_rslora has no effect"));
  EXPECT_FALSE(has_note(vision, "--lora_plus_ratio has no effect"));
}

TEST_F(DeepSpeedConfigTest, OffloadAndPrescalingAreAcceptedWithOneLine) {
  const ParsedOptions parsed = parse(R"({"prescale_gradients": true, "zero_optimization":
    {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}})");
  EXPECT_EQ(parsed.options.offload_param, "cpu");
  EXPECT_TRUE(has_note(parsed, "--offload_param cpu has no effect"));
  EXPECT_TRUE(has_note(parsed, "--offload_optimizer cpu has no effect"));
  EXPECT_TRUE(has_note(parsed, "prescale_gradients has no effect"));
  EXPECT_EQ(parsed.notes.size(), 3u);
}

// ---- the batch numbers

TEST(BatchSizes, TwoGiveTheThirdAndOneAloneTakesOneMicroBatch) {
  struct Row {
    BatchSizes given;
    int64_t ranks, train, micro, steps;
  };
  const std::optional<int64_t> no;
  for (const Row& row : {Row{{64, 2, no}, 8, 64, 2, 4}, Row{{64, no, 4}, 8, 64, 2, 4},
                         Row{{no, 2, 4}, 8, 64, 2, 4}, Row{{64, 2, 4}, 8, 64, 2, 4},
                         Row{{24, no, no}, 3, 24, 8, 1}, Row{{no, 5, no}, 3, 15, 5, 1}}) {
    BatchSizes sizes = row.given;
    EXPECT_EQ(resolve_batch_sizes(sizes, row.ranks), "");
    EXPECT_EQ(sizes.train_batch_size, row.train);
    EXPECT_EQ(sizes.micro_batch_size, row.micro);
    EXPECT_EQ(sizes.accumulation_steps, row.steps);
  }
  BatchSizes nothing;
  EXPECT_EQ(resolve_batch_sizes(nothing, 2), "");
  EXPECT_FALSE(nothing.train_batch_size);
}

TEST(BatchSizes, ErrorsShowTheArithmetic) {
  const auto wrong = [](BatchSizes sizes, int64_t ranks) {
    return resolve_batch_sizes(sizes, ranks);
  };
  const std::optional<int64_t> no;
  EXPECT_EQ(wrong({48, 2, 4}, 3),
            "train_batch_size 48 is not train_micro_batch_size_per_gpu 2 x "
            "gradient_accumulation_steps 4 x 3 ranks = 24; nearest that fits: train_batch_size 24, "
            "or gradient_accumulation_steps 8, or train_micro_batch_size_per_gpu 4");
  EXPECT_EQ(wrong({32, 4, no}, 3),
            "train_batch_size 32 is no multiple of train_micro_batch_size_per_gpu 4 x 3 ranks = "
            "12: 8 left over; nearest train_batch_size that fits: 24 or 36");
  EXPECT_EQ(wrong({2, no, no}, 3),
            "train_batch_size 2 is no multiple of gradient_accumulation_steps 1 x 3 ranks = 3: 2 "
            "left over; nearest train_batch_size that fits: 3");
  EXPECT_NE(wrong({no, no, 4}, 3).find("gradient_accumulation_steps alone"), std::string::npos);
  EXPECT_NE(wrong({0, 1, no}, 3).find("train_batch_size 0 is not in 1 to"), std::string::npos);
  const int64_t large = int64_t{1} << 40;
  EXPECT_NE(wrong({no, large, large}, 3).find("is more than"), std::string::npos);
}

TEST_F(DeepSpeedConfigTest, CommandLineTakesPartInTheBatchNumbers) {
  const std::string json = R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4})";
  const auto sizes = [&](int64_t ranks, const std::string& line) {
    const Options o = parse(json, ranks, line).options;
    return std::pair{o.per_device_train_batch_size, o.gradient_accumulation_steps};
  };
  EXPECT_EQ(sizes(2, ""), (std::pair<int64_t, int64_t>{4, 4}));
  EXPECT_EQ(sizes(2, "--per_device_train_batch_size 2"), (std::pair<int64_t, int64_t>{2, 8}));
  EXPECT_EQ(sizes(2, "--per_device_train_batch_size 2 --gradient_accumulation_steps 3"),
            (std::pair<int64_t, int64_t>{2, 3}));
  EXPECT_TRUE(
      has_note(parse(json, 2,
                     "--per_device_train_batch_size 2 "
                     "--gradient_accumulation_steps 3"),
               "a step has 12 samples, as the command line says, not train_batch_size = 32"));
  expect_mistake(json, "is not train_micro_batch_size_per_gpu 4 x gradient_accumulation_steps 3", 2,
                 "--gradient_accumulation_steps 3");
}

}  // namespace
}  // namespace facet
