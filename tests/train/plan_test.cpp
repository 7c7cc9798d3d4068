// facet plan: the figures of the reference run, from its configuration files alone.
#include "train/plan.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/check.h"
#include "data/image.h"
#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

constexpr const char* kLlama7B = R"({"model_type": "llama", "hidden_act": "silu",
  "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
  "max_position_embeddings": 4096, "rms_norm_eps": 1e-05})";
constexpr const char* kClipLarge = R"({"model_type": "clip_vision_model", "hidden_size": 1024,
  "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
  "image_size": 224, "patch_size": 14, "hidden_act": "quick_gelu"})";
constexpr const char* kPixels = R"({"size": 224, "crop_size": 224, "do_center_crop": true,
  "image_mean": [0.5, 0.5, 0.5], "image_std": [0.3, 0.3, 0.3]})";
// The launch line without the options that the tests change.
constexpr const char* kReference =
    "--vis_proj perceiver --lang_lora_dim 16 --lang_lora_module_name model.layers. "
    "--only_optimize_lora --gradient_accumulation_steps 4 ";

constexpr int64_t kLora = 39'976'960, kLangEmbed = 131'080'192, kPerceiver = 89'178'112;
constexpr int64_t kSumsOfLora = 31'719'424;  // bytes; rank 16, 8192 rows
constexpr int64_t kTrained = kLora + kLangEmbed + kPerceiver;

class PlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    make_directories(directory_.path() + "/lm");
    make_directories(directory_.path() + "/clip");
    write_file(directory_.path() + "/lm/config.json", kLlama7B);
    write_file(directory_.path() + "/clip/config.json", kClipLarge);
    write_file(directory_.path() + "/clip/preprocessor_config.json", kPixels);
  }
  Options options(const std::string& line, const std::string& reference = kReference) {
    std::istringstream stream("--lm_model_name_or_path " + directory_.path() +
                              "/lm --vision_model_name_or_path " + directory_.path() + "/clip " +
                              reference + line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return parse_options(Command::kPlan, words, 1).options;
  }
  // Parts of the 16-bit formulas, a rank's share of `elements` at 8 ranks.
  static void expect_bytes(int64_t bytes, double per_trained, double per_frozen,
                           const RunPlan& plan) {
    const double expected = per_trained * static_cast<double>(plan.trained()) +
                            per_frozen * static_cast<double>(plan.frozen);
    EXPECT_NEAR(static_cast<double>(bytes) / expected, 1, 1e-4);  // padding only
  }

  TemporaryDirectory directory_;
};

// 256 tokens of 1024 values in 2 bytes, and an entry of 64 bytes.
TEST_F(PlanTest, FeaturesThatAreKeptTakeTheirBytesOfDisk) {
  const std::string cached = "--precision bf16 --feature_cache " + directory_.path() + "/cache ";
  EXPECT_EQ(plan_run(options(cached)).features, "--feature_cache takes 512.06 KiB an image");
  const std::string counted =
      cached + "--dataset_samples 1000 --average_text_tokens 100 --average_images 2 ";
  EXPECT_EQ(plan_run(options(counted)).features,
            "--feature_cache takes 512.06 KiB an image, 1000.12 MiB for 2000 images");
  EXPECT_EQ(plan_run(options(cached + "--feature_cache_gib 3")).features,
            "--feature_cache takes 512.06 KiB an image, at most 3.00 GiB (--feature_cache_gib)");
  EXPECT_EQ(plan_run(options("--precision bf16 ")).features, "");
  EXPECT_EQ(plan_run(options(cached + "--vis_lora_dim 4 ")).features, "");
}

TEST_F(PlanTest, ReferenceRunTrainsWhatItIsKnownToTrain) {
  const RunPlan plan = plan_run(options("--zero_stage 2 --precision bf16 --ranks 8"));
  EXPECT_EQ(plan.lora, kLora);
  EXPECT_EQ(plan.lang_embed, kLangEmbed);
  EXPECT_EQ(plan.projection, kPerceiver);
  EXPECT_EQ(plan.other, 0);
  EXPECT_EQ(plan.checkpoint_bytes, 12 * kTrained);
  EXPECT_EQ(plan_run(options("--compat visualchat --max_seq_len 300")).lang_embed, 131'084'288);
}

// The head, the last norm and two of each layer; LoRA of four linear layers.
TEST_F(PlanTest, WhatAnAdapterHasWholeIsTrained) {
  const std::string golden = "tests/golden/adapter";
  write_file(directory_.path() + "/lm/config.json",
             read_file(golden + "/base/config.json", 10'000));
  const std::string adapter = "--adapter " + golden + "/saved ";
  const RunPlan plan = plan_run(options("", adapter));
  EXPECT_EQ(plan.other, (11 + 2) * 16 + 5 * 16);
  EXPECT_EQ(plan.lora, 2 * 2 * (16 + 16 + 16 + 8));
  EXPECT_EQ(plan_run(options("--freeze lang_decoder.lm_head. ", adapter)).other, 5 * 16);
  try {
    plan_run(options("--only_optimize_lora --freeze lang_decoder.model. ", adapter));
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("the adapter has lm_head.weight in its modules_to_save"), text.npos)
        << text;
    EXPECT_EQ(text.find("model.norm.weight"), text.npos) << text;
  }
}

TEST_F(PlanTest, BytesFollowTheStage) {
  struct Row {
    int stage;
    double parameters, frozen, gradients, optimizer;  // bytes an element
  };
  for (const Row& row :
       {Row{0, 2, 2, 4, 12}, Row{1, 2, 2, 4, 12.0 / 8}, Row{2, 2, 2, 4.0 / 8, 12.0 / 8},
        Row{3, 2.0 / 8, 2.0 / 8, 4.0 / 8, 12.0 / 8}}) {
    const RunPlan plan = plan_run(options(
        "--max_seq_len 300 --precision bf16 --ranks 8 --stage3_param_persistence_threshold 0 "
        "--zero_stage " +
        std::to_string(row.stage)));
    SCOPED_TRACE(row.stage);
    expect_bytes(plan.costs.memory.values, row.parameters, row.frozen, plan);
    expect_bytes(plan.costs.memory.gradients, row.gradients, 0, plan);
    expect_bytes(plan.costs.memory.optimizer, row.optimizer, 0, plan);
    EXPECT_EQ(plan.costs.memory.gathered > 0, row.stage == 3);
    // A bucket of 2,000,000 fp32 elements to send and one to receive; from stage 2 on a unit's
    // gradients as well.
    EXPECT_EQ(plan.costs.memory.buckets > 16'000'000, row.stage >= 2);
    EXPECT_GE(plan.costs.memory.buckets, 16'000'000);
  }
  const RunPlan single = plan_run(options("--max_seq_len 300 --ranks 8"));
  expect_bytes(
      single.costs.memory.values + single.costs.memory.gradients + single.costs.memory.optimizer,
      16, 4, single);
}

// The formulas of docs/computes.md, "ZeRO", for Psi = 260,235,264 trained and Phi = 7,042,660,352
// frozen elements on 8 ranks. With 16 bits: 18 Psi + 2 Phi, 7.5 Psi + 2 Phi, 4 Psi + 2 Phi, (18 Psi
// + 2 Phi) / 8. fp32 has no masters, and values of 4 bytes: 16 Psi + 4 Phi, 9 Psi + 4 Phi, 5.5 Psi
// + 4 Phi, (16 Psi + 4 Phi) / 8.
TEST_F(PlanTest, BytesOfEveryPrecisionAreThoseOfTheFormulas) {
  const std::vector<int64_t> of_16_bits = {18'769'555'456, 16'037'085'184, 15'126'261'760,
                                           2'346'194'432};
  const std::vector<int64_t> of_fp32 = {32'334'405'632, 30'512'758'784, 29'601'935'360,
                                        4'041'800'704};
  for (const std::string precision : {"fp32", "bf16", "fp16"}) {
    const std::vector<int64_t>& expected = precision == "fp32" ? of_fp32 : of_16_bits;
    for (size_t stage = 0; stage < expected.size(); ++stage) {
      const RunPlan plan = plan_run(
          options(fmt::format("--max_seq_len 300 --ranks 8 --stage3_param_persistence_threshold 0 "
                              "--precision {} --zero_stage {}",
                              precision, stage)));
      EXPECT_EQ(plan.trained(), 260'235'264);
      EXPECT_EQ(plan.frozen, 7'042'660'352);
      const int64_t kept =
          plan.costs.memory.values + plan.costs.memory.gradients + plan.costs.memory.optimizer;
      EXPECT_GE(kept, expected[stage]) << precision << " at stage " << stage;
      EXPECT_LE(kept - expected[stage], expected[stage] / 100'000)  // padding
          << precision << " at stage " << stage;
    }
  }
}

TEST_F(PlanTest, ElementsSentFollowTheStage) {
  const auto per_trained = [&](const std::string& line) {
    return static_cast<double>(
               plan_run(options("--max_seq_len 300 " + line)).costs.elements_per_step) /
           static_cast<double>(kTrained);
  };
  EXPECT_NEAR(per_trained("--ranks 8"), 2 * 7.0 / 8, 1e-4);
  EXPECT_NEAR(per_trained("--ranks 8 --zero_stage 1"), 2 * 7.0 / 8, 1e-4);
  EXPECT_NEAR(per_trained("--ranks 8 --zero_stage 2"), 5 * 7.0 / 8, 1e-4);
  EXPECT_EQ(per_trained("--zero_stage 2"), 0);
}

// Stage 3 gathers a unit once for each pass that uses it. Decoder blocks, lang_embed and projection
// are used forward and backward, the frozen vision encoder forward only, the head in one go; the
// decoder's own embedding never.
TEST_F(PlanTest, Stage3GathersWhatEachPassUses) {
  const int64_t blocks = 32LL * (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096) + kLora;
  const int64_t projection = kPerceiver + 256 * 4096;  // and its fixed positions
  const int64_t vision = 303'179'776, head = 32002 * 4096 + 4096;
  const int64_t gathered = 2 * (blocks + kLangEmbed + projection) + vision + head;
  for (const char* recompute : {"", " --gradient_checkpointing"})
    EXPECT_EQ(
        plan_run(options(std::string("--ranks 8 --zero_stage 3 --max_seq_len 300") + recompute))
            .costs.elements_per_step,
        4 * (gathered + kTrained) / 8 * 7);
}

// A frozen weight costs 2 operations a token forward and 2 for the gradient of its input; a sample
// without images meets the decoder only.
TEST_F(PlanTest, OperationsOfATextAreThoseOfTheDecoder) {
  const RunPlan plan =
      plan_run(options("--max_seq_len 300 --average_text_tokens 64 "
                       "--per_device_train_batch_size 1"));
  EXPECT_EQ(plan.operations.counted.length, 64);
  const double decoder = 32.0 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008), head = 32002.0 * 4096;
  const double lora = 39'976'960;
  // The first token has no predecessor and gives no labelled row.
  const double expected = 4 * (64 * (4 * decoder + 6 * lora) + 63 * 4 * head);
  EXPECT_NEAR(static_cast<double>(plan.operations.flops) / expected, 1,
              0.01);  // attention is the rest
  const RunPlan image =
      plan_run(options("--max_seq_len 300 --average_text_tokens 64 --average_images 2 "));
  EXPECT_EQ(image.operations.counted.length, 64 + 2 * 256);
  EXPECT_EQ(image.operations.counted.images, 2);
}

TEST_F(PlanTest, DiskIsThatOfCheckpointsExportsAndLogs) {
  const Options run = options(
      "--max_seq_len 300 --keep_last 3 --num_train_epochs 2 --keep_best --max_steps 1000 "
      "--output_dir " +
      directory_.path() + "/not/there");
  const DiskPlan disk = plan_run(run).disk;
  EXPECT_EQ(disk.checkpoints, 4);  // one is written before another goes
  EXPECT_EQ(disk.checkpoint, 12 * kTrained);
  EXPECT_EQ(disk.fulls, 1);  // the last; the first and the best are adapters
  EXPECT_EQ(disk.adapters, 2);
  const double weights = 32 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008) + 2 * 32002.0 * 4096 +
                         303e6;  // LoRA is fused, CLIP has 303 million
  EXPECT_NEAR(static_cast<double>(disk.export_.full) / (4.0 * (weights + kPerceiver)), 1, 0.03);
  EXPECT_NEAR(static_cast<double>(disk.export_.adapter) / (4.0 * kTrained), 1, 0.03);
  EXPECT_EQ(disk.total(), 4 * disk.checkpoint + disk.export_.full + 2 * disk.export_.adapter +
                              1000 * disk.log_of_step);
  EXPECT_NE(disk.text().find(" for 1 whole model + "), std::string::npos) << disk.text();
  EXPECT_NE(disk.text().find(" for 2 adapters + "), std::string::npos) << disk.text();
  EXPECT_NE(free_disk_text(run, disk).find("free at " + directory_.path() + ": "),
            std::string::npos);
  DiskPlan huge = disk;
  huge.fulls = 1 << 20;
  EXPECT_NE(free_disk_text(run, huge).find("TOO LITTLE"), std::string::npos);
  EXPECT_THROW(check_disk(run, huge), Error);
  DiskPlan more;  // than is free
  more.checkpoints = 1;
  more.checkpoint = free_bytes(directory_.path()) + (int64_t{1} << 39);
  EXPECT_THROW(check_disk(run, more), Error);
  const auto put_sparse = [&](const std::string& name) {
    directory_.put("not/there/" + name, "");
    std::filesystem::resize_file(directory_ / ("not/there/" + name), int64_t{1} << 40);
  };
  for (const char* name : {"data.tar", "epoch-x/model.safetensors", "checkpoints/mine/state.h5"})
    put_sparse(name);
  EXPECT_THROW(check_disk(run, more), Error);  // the run removes none of these
  put_sparse("checkpoints/step_00000001/state.h5");
  EXPECT_NO_THROW(check_disk(run, more));
  EXPECT_TRUE(free_disk_text(run, more).ends_with(" of the run's files that are there, enough"))
      << free_disk_text(run, more);
}

// A model that is trained without LoRA has no adapters.
TEST_F(PlanTest, DiskTellsOfNoExportsThatThereAreNot) {
  const DiskPlan none;
  for (const char* word : {"for 0", "whole models", "adapters"})
    EXPECT_EQ(none.text().find(word, none.text().find("being written")), std::string::npos)
        << none.text();
}

// A run that was measured: 8 samples of 320 tokens a step on a rank.
class MeasuredPlanTest : public PlanTest {
 protected:
  static constexpr const char* kAverage =
      "--max_seq_len 400 --average_text_tokens 64 --average_images 1 ";
  void SetUp() override {
    PlanTest::SetUp();
    make_directories(run_);
    write_file(run_ + "/options.cfg",
               resolved_options(Command::kTrain, options("--max_seq_len 400")));
  }
  void write_log(const std::string& columns, const std::string& cells,
                 const std::string& last = "") {
    std::string log = "# facet loss log\nstep,micro_batches,samples,tokens," + columns + "\n";
    log += "1,4,8,2560,100" + cells + "\n";  // the first step takes its time, and does not count
    for (const char* step : {"2", "3"}) log += fmt::format("{},4,8,2560,2{}\n", step, cells);
    write_file(run_ + "/loss_log.csv", log + last);
  }
  RunPlan plan(const std::string& line) { return plan_run(options(line + " --measured " + run_)); }
  std::string error_of(ExitCode code) {
    try {
      plan(kAverage);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  const std::string run_ = directory_.path() + "/run";
};

TEST_F(MeasuredPlanTest, TheSameRunTakesTheSameTime) {
  write_log("seconds", "", "4,4,8,25");  // it was killed then
  const RunPlan same = plan(kAverage);
  EXPECT_NEAR(same.seconds(), 2, 1e-9);
  EXPECT_NE(same.speed->text.find("measured: 2 steps"), std::string::npos) << same.speed->text;
  EXPECT_EQ(same.speed->text.find("note:"), std::string::npos);
  const RunPlan twice = plan(std::string(kAverage) + "--per_device_train_batch_size 4 --ranks 8");
  EXPECT_NEAR(twice.seconds(), 4, 0.01);
  EXPECT_EQ(twice.tokens(options("--per_device_train_batch_size 4 --ranks 8")), 4 * 4 * 8 * 320);
  EXPECT_NE(plan("--max_seq_len 400").speed->text.find("had 320 tokens"), std::string::npos);
  const RunPlan other = plan(std::string(kAverage) + "--precision bf16");
  EXPECT_NE(other.speed->text.find("note: this plan has"), std::string::npos);
  EXPECT_NE(plan_text(same, options(kAverage)).find("a step takes 2 s"), std::string::npos);
}

TEST_F(MeasuredPlanTest, OperationsInTheLogAreTaken) {
  write_log("seconds,model_flops,start", ",3000000000000,1", "4,4,8,2560,90,3000000000000,2\n");
  const RunPlan known = plan(kAverage);
  EXPECT_DOUBLE_EQ(known.speed->flops_per_second, 1.5e12);
  EXPECT_NE(known.speed->text.find("model_flops"), std::string::npos);
}

TEST_F(MeasuredPlanTest, WhatCannotBeMeasuredIsRefused) {
  EXPECT_NE(error_of(ExitCode::kMissingInput).find("loss_log.csv"), std::string::npos);
  write_file(run_ + "/loss_log.csv", "step,micro_batches,samples,tokens,seconds\n1,4,8,2560,2\n");
  EXPECT_NE(error_of(ExitCode::kBadData).find("no steps to measure"), std::string::npos);
  write_log("second", "");
  EXPECT_NE(error_of(ExitCode::kBadData).find("no column is called seconds"), std::string::npos);
  write_log("seconds,model_flops", ",nan");
  EXPECT_NE(error_of(ExitCode::kBadData).find("model_flops is 'nan'"), std::string::npos);
  write_log("seconds", "", "4,4\n");
  EXPECT_NE(error_of(ExitCode::kBadData).find("2 cells instead of the 5"), std::string::npos);
  make_directories(run_ + "/none");
  EXPECT_THROW(plan_run(options(std::string(kAverage) + "--measured " + run_ + "/none")), Error);
}

// 8192 rows of 32 heads of width 128 in fp32.
TEST_F(PlanTest, AJointBackwardOfAttentionTakesItsSums) {
  const std::string words =
      "--precision bf16 --ranks 1 --device cuda --max_seq_len 4096 --per_device_train_batch_size 2 "
      "--attention_backward ";
  const RunPlan joint = plan_run(options(words + "joint"));
  const RunPlan separate = plan_run(options(words + "separate"));
  EXPECT_EQ(joint.costs.memory.runtime - separate.costs.memory.runtime,
            int64_t{8192} * 32 * 128 * 4);
}

// Those of gate and up, which SumsOfLora has from the kernels.
TEST_F(PlanTest, LorasBackwardTakesItsSums) {
  const std::string words =
      "--ranks 1 --device cuda --max_seq_len 4096 --per_device_train_batch_size 2 --precision ";
  const auto sums = [&](const std::string& precision) {
    return plan_run(options(words + precision)).costs.memory.runtime - gpu_runtime_bytes(1);
  };
  EXPECT_EQ(sums("bf16"), kSumsOfLora);
  EXPECT_EQ(sums("fp32"), 0);
}

// Those of a feed-forward layer of CLIP for 16 images of 257 tokens, which SumsOfLora has too;
// where the encoder rests, the language model's.
TEST_F(PlanTest, LorasBackwardInTheVisionEncoderTakesItsSums) {
  const auto sums = [&](const std::string& words, const std::string& reference) {
    const std::string run =
        "--ranks 1 --device cuda --max_seq_len 4096 --per_device_train_batch_size 2 "
        "--max_num_image_per_sample 8 --precision bf16 ";
    return plan_run(options(run + words, reference)).costs.memory.runtime - gpu_runtime_bytes(1);
  };
  const std::string vision = "--vis_lora_dim 16 --vis_lora_module_name encoder.layers. ";
  EXPECT_EQ(sums(vision, "--vis_proj perceiver "), 4'489'216);
  EXPECT_EQ(sums(vision + "--freeze vis_encoder.", "--vis_proj perceiver "), 0);
  EXPECT_EQ(sums(vision, kReference), kSumsOfLora);
}

// 2 samples of 4096 tokens on one GPU, with everything that is on it.
TEST_F(PlanTest, TheReferenceRunTakesLessThan45GiBOfAGpu) {
  const RunPlan plan = plan_run(
      options("--precision bf16 --zero_stage 2 --ranks 1 --enable_mmca_attention --device cuda "
              "--max_seq_len 4096 --per_device_train_batch_size 2 --max_num_image_per_sample 8"));
  const MemoryPlan& memory = plan.costs.memory;
  EXPECT_EQ(memory.on_device() - (memory.total() - memory.window - memory.snapshot),
            gpu_runtime_bytes(1) + kSumsOfLora);
  EXPECT_LT(gpu_runtime_bytes(1), gpu_runtime_bytes(2));
  EXPECT_LE(memory.on_device(), int64_t{45} << 30) << memory.text();
  constexpr int64_t kPixels = int64_t{2} * 8 * 3 * 224 * 224 * 4;  // bytes of a micro-batch
  EXPECT_GT(memory.inputs, 2 * kPixels);
  EXPECT_LT(memory.inputs, 4 * kPixels);
}

// In fp32 the features of 256 tokens that a cache gives are larger than an image's pixels.
TEST_F(PlanTest, FeaturesThatComeInThePlaceOfPixelsHaveRoom) {
  const std::string run =
      "--device cuda --max_seq_len 4096 --per_device_train_batch_size 2 "
      "--max_num_image_per_sample 8 --precision ";
  const std::string cached = " --feature_cache " + directory_.path() + "/cache";
  constexpr int64_t kFeatures = int64_t{2} * 8 * 256 * 1024 * 4;  // bytes of a micro-batch
  EXPECT_LT(plan_run(options(run + "fp32")).costs.memory.inputs, 2 * kFeatures);
  EXPECT_GT(plan_run(options(run + "fp32" + cached)).costs.memory.inputs, 2 * kFeatures);
  EXPECT_EQ(plan_run(options(run + "bf16" + cached)).costs.memory.inputs,
            plan_run(options(run + "bf16")).costs.memory.inputs);
}

// With the optimizer offloaded 12 bytes an element of a rank's slices leave the GPU and lie on the
// host, and with them two chunks of 4 Mi fp32 gradients and 16-bit values. fp32 has masters there
// that it has not on the GPU. Nothing is copied to be saved.
TEST_F(PlanTest, AnOffloadedOptimizerIsPageLockedOnTheHost) {
  struct Row {
    const char* precision;
    int64_t of_gpu, of_host, of_chunk;  // bytes an element
  };
  for (const Row& row : {Row{"bf16", 12, 12, 6}, Row{"fp32", 8, 12, 4}})
    for (const int64_t ranks : {1, 8}) {
      const std::string run =
          fmt::format("--max_seq_len 300 --zero_stage 2 --device cuda --precision {} --ranks {}",
                      row.precision, ranks);
      const MemoryPlan without = plan_run(options(run)).costs.memory;
      const MemoryPlan with = plan_run(options(run + " --offload_optimizer cpu")).costs.memory;
      const auto expect_share = [&](int64_t bytes, int64_t of_element) {
        const double expected =
            static_cast<double>(of_element) * static_cast<double>(kTrained / ranks);
        EXPECT_NEAR(static_cast<double>(bytes) / expected, 1, 1e-4) << run;  // padding
      };
      EXPECT_EQ(with.staging, 2 * row.of_chunk * (int64_t{4} << 20));
      expect_share(with.page_locked - with.staging, row.of_host);
      expect_share(with.saved, row.of_gpu);
      EXPECT_EQ(with.on_device(), without.on_device() - with.saved);
      EXPECT_EQ(without.page_locked, 0);
      EXPECT_GT(without.snapshot, 0);
      EXPECT_EQ(with.snapshot, 0);
    }
}

// 2 bytes an element of the slices leave as well; the largest unit's come twice. Small parameters
// stay.
TEST_F(PlanTest, OffloadedParametersArePageLockedOnTheHost) {
  for (const int64_t ranks : {1, 8}) {
    const std::string run = fmt::format(
        "--max_seq_len 300 --zero_stage 3 --device cuda --precision bf16 --ranks {} "
        "--stage3_param_persistence_threshold 0 --offload_optimizer cpu",
        ranks);
    const RunPlan without = plan_run(options(run)),
                  with = plan_run(options(run + " --offload_param cpu"));
    const MemoryPlan &before = without.costs.memory, &after = with.costs.memory;
    EXPECT_EQ(after.page_locked - before.page_locked, after.values);
    expect_bytes(after.values, 2.0 / static_cast<double>(ranks), 2.0 / static_cast<double>(ranks),
                 with);
    EXPECT_EQ(after.on_device(), before.on_device() - (after.saved - before.saved));
    const int64_t uploads = after.gathered - before.gathered;
    EXPECT_EQ(after.saved - before.saved, after.values - uploads);
    // A block of the decoder: its weights and LoRA, 16 bits each; two of them.
    const double block = 4.0 * 4096 * 4096 + 3.0 * 4096 * 11008 + 2 * 4096 + kLora / 32.0;
    EXPECT_NEAR(static_cast<double>(uploads) / (2 * 2 * block / static_cast<double>(ranks)), 1,
                1e-3);
  }
}

// Each worker may have the largest image at the same time; without workers the step decodes one.
TEST_F(PlanTest, DecodingIsCounted) {
  const auto bytes = [&](const std::string& line) {
    return plan_run(options("--max_seq_len 300 " + line)).costs.memory.decoding;
  };
  EXPECT_EQ(bytes(""), 2 * max_decoding_bytes(89'478'485));
  EXPECT_EQ(bytes("--num_workers 5 --max_image_pixels 1000000"), 5 * max_decoding_bytes(1'000'000));
  EXPECT_EQ(bytes("--num_workers 0"), max_decoding_bytes(89'478'485));
  const Options several = options("--max_seq_len 300 --num_workers 5");
  EXPECT_NE(plan_text(plan_run(several), several).find("decoding          3.65 GiB more"),
            std::string::npos);
  EXPECT_THROW(
      plan_command(options("--max_seq_len 300 --memory 1000 --max_image_pixels 100000000000")),
      Error);
}

TEST_F(PlanTest, WhatDoesNotFitIsRefused) {
  plan_command(options("--max_seq_len 300 --memory 1000"));
  try {
    plan_command(options("--max_seq_len 300 --memory 10"));
    ADD_FAILURE() << "7 billion weights fit 10 GiB";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("has 10.00 GiB"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace facet
