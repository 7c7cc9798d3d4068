// What may and may not differ between a run and its continuation.
#include "train/resume.h"

#include <gtest/gtest.h>

#include <functional>

#include "../io/temporary_directory.h"
#include "options/option_table.h"
#include "train/data_identity.h"
#include "train/lora_alphas.h"

namespace facet {
namespace {

RunState run_with(const Options& options) {
  RunState run;
  run.global_batch = 12;
  run.data_fingerprint = "d";
  run.frozen_hash = "f";
  run.options = resolved_options(Command::kTrain, options);
  return run;
}

std::string difference(const Options& before, const Options& after) {
  return error_of([&] { check_same_run(run_with(before), run_with(after), "out/step_7"); });
}

// Sets any other value.
void change(bool& value) { value = !value; }
void change(int64_t& value) { ++value; }
void change(double& value) { value += 0.5; }
void change(std::string& value) { value += "x"; }
template <typename T>
void change(std::vector<T>& values) {
  values.emplace_back();
  change(values.back());
}

// Each row must state a decision to compile; the check on resume must follow it.
TEST(Resume, EveryOptionFollowsItsMark) {
  for (const OptionField& option : option_table()) {
    const bool of_training = option.known_to(Command::kTrain);
    EXPECT_EQ(option.on_resume == OnResume::kNotOfTraining, !of_training) << option.name;
    if (!of_training) continue;
    Options after;
    std::visit([&](auto member) { change(after.*member); }, option.member);
    const bool refused = mentions(difference({}, after), fmt::format("--{} was '", option.name));
    EXPECT_EQ(refused, option.on_resume == OnResume::kMustMatch) << option.name;
  }
}

TEST(Resume, OutputAndDivisionOfWorkMayChange) {
  Options before, after;
  after.output_dir = "elsewhere";
  after.save_interval = 5;
  after.per_device_train_batch_size = 6;
  after.num_train_epochs = before.num_train_epochs + 1;
  EXPECT_EQ(difference(before, after), "");
}

TEST(Resume, WhatIsComputedMayNot) {
  Options before, after;
  after.seed = 8;
  after.lang_lora_dim = 4;
  after.unfreeze = {"lang_decoder."};
  after.num_train_epochs = before.num_train_epochs - 1;
  const std::string error = difference(before, after);
  EXPECT_TRUE(mentions(error, "78: out/step_7 is of another run"));
  EXPECT_TRUE(mentions(error, "--seed was '1234', is '8'"));
  EXPECT_TRUE(mentions(error, "--lang_lora_dim was '0', is '4'"));
  EXPECT_TRUE(mentions(error, "--unfreeze was '', is 'lang_decoder.'"));
  EXPECT_TRUE(mentions(error, "--num_train_epochs was 6, is 5: it may only grow"));
}

TEST(Resume, DataWeightsAndStepSizeMayNot) {
  const RunState stored = run_with({});
  RunState now = stored;
  now.data_fingerprint = "other";
  now.frozen_hash = "other";
  now.global_batch = 8;
  const std::string error = error_of([&] { check_same_run(stored, now, "c"); });
  EXPECT_TRUE(mentions(error, "the data differ"));
  EXPECT_TRUE(mentions(error, "the frozen weights differ"));
  EXPECT_TRUE(mentions(error, "a step had 12 samples, now 8"));
}

// As an adapter's alpha_pattern gives them, beside one alpha for all, which is an option.
TEST(Resume, AlphasOfSingleModulesMustMatch) {
  VlmConfig model;
  model.lang_lora.alpha = 2;
  model.lang_lora.own = {{"q", {4, 8}}, {"k", {4, 0.5f}}, {"v", {2, 2}}};
  model.vis_lora.own = {{"q", {4, 3}}};
  EXPECT_EQ(own_alphas(model), "lang_decoder.k = 0.5\nlang_decoder.q = 8\nvis_encoder.q = 3\n");
  RunState stored = run_with({}), now = stored;
  stored.own_alphas = now.own_alphas = own_alphas(model);
  EXPECT_EQ(error_of([&] { check_same_run(stored, now, "c"); }), "");
  model.lang_lora.own = {{"q", {4, 16}}};
  now.own_alphas = own_alphas(model);
  const std::string error = error_of([&] { check_same_run(stored, now, "c"); });
  EXPECT_TRUE(mentions(error, "LoRA's alpha on lang_decoder.q was 8, is 16"));
  EXPECT_TRUE(mentions(error, "LoRA's alpha on lang_decoder.k was 0.5, is that of the others"));
  EXPECT_FALSE(mentions(error, "vis_encoder.q"));
  stored.own_alphas.reset();  // of an older program
  EXPECT_EQ(error_of([&] { check_same_run(stored, now, "c"); }), "");
}

// The error of going on with data of that fingerprint, whose files are /a, /b, /c ...
std::string data_error(const std::string& before, const std::string& after,
                       const std::string& config = "") {
  Options options;
  options.data_config = config;
  RunState stored = run_with(options), now = stored;
  stored.data_fingerprint = before;
  now.data_fingerprint = after;
  now.data_files = {"/a", "/b", "/c"};
  return error_of([&] { check_same_run(stored, now, "c"); });
}

TEST(Resume, ChangedFilesAreNamed) {
  const std::string before = "0123 llava=1,aa,bb own=2,cc-11";
  for (const auto& [after, part] : std::vector<std::pair<std::string, std::string>>{
           {"4567 llava=1,aa,bb own=3,cd-12", "these data sets have changed: own (/c)"},
           {"4567 llava=2,ab,ba own=2,cc-11", "these data sets have changed: llava (/a, /b)"},
           {"4567 llava=2,ab own=3,cd-11",
            "these data sets have changed: llava (2 files, now 1), own (/b)"},
           {"4567 llava=1,aa,bb own=4,cc-11",
            "these data sets have changed: own (its system text)"},
           {"4567 llava=1,aa,bb own=2,cc-11", "the data differ: annotations, choice of samples"},
           {"4567 llava=1,aa,bb mine=2,cc-11",
            "the data sets were: llava own; they are: llava mine"}}) {
    EXPECT_TRUE(mentions(data_error(before, after), part)) << data_error(before, after);
    EXPECT_TRUE(mentions(data_error(before, after, "mix.json"), " (--data_config mix.json)"));
  }
  EXPECT_EQ(data_error(before, "0123 llava=1,aa,bb own=2,cc-12"), "");
}

TEST(Resume, OlderCheckpointsKnowLessOfTheirFiles) {
  EXPECT_EQ(data_error("4567", "4567 llava=1 own=2"), "");
  EXPECT_TRUE(mentions(data_error("0123", "4567 llava=1,aa own=2,cc-11"), "the data differ"));
  EXPECT_EQ(data_error("4567 llava=1 own=2", "4567 llava=1,aa own=2,cc-11"), "");
  EXPECT_TRUE(mentions(data_error("0123 llava=1 own=2", "4567 llava=1,aa own=3,cc-11"),
                       "these data sets have changed: own"));
}

// Only what an index does not cover is unknown where the time alone is another.
TEST(Resume, TouchedFilesAreThoseWhoseIndexIsTheSame) {
  RunState stored = run_with({}), now = stored;
  stored.data_fingerprint = "0123 llava=1,aa own=2,cc-11,dd-11";
  now.data_files = {"/a", "/b", "/c"};
  for (const auto& [after, expected] :
       std::vector<std::pair<std::string, std::vector<std::string>>>{
           {stored.data_fingerprint, {}},
           {"0123 llava=1,aa own=2,cc-12,dd-11", {"/b"}},
           {"0123 llava=1,aa own=2,cc-12,dd-12", {"/b", "/c"}}}) {
    now.data_fingerprint = after;
    EXPECT_EQ(touched_files(stored, now), expected) << after;
  }
  stored.data_fingerprint = "0123 llava=1 own=2";  // of an older program
  EXPECT_EQ(touched_files(stored, now), std::vector<std::string>{});
}

// A checkpoint from before an option existed counts as having its default.
TEST(Resume, NewOptionsCountAsTheirDefaults) {
  RunState stored = run_with({});
  const std::string line = "loss_average = global\n";
  stored.options.erase(stored.options.find(line), line.size());
  Options after;
  EXPECT_EQ(error_of([&] { check_same_run(stored, run_with(after), "c"); }), "");
  after.loss_average = "micro_batch";
  EXPECT_TRUE(mentions(error_of([&] { check_same_run(stored, run_with(after), "c"); }),
                       "--loss_average was 'global', is 'micro_batch'"));
}

// A checkpoint's state that contradicts itself is damaged, whatever its hashes say.
TEST(Resume, AnImpossibleStateIsBadData) {
  Options options;
  options.dataset_names = {"llava", "llava_dial"};
  RunState good = run_with(options);
  good.step = 23;
  good.epoch = 2;
  good.next_step = 3;  // of 10 steps
  good.optimizer_steps = 20;
  good.bad_samples_in_epoch = good.bad_samples_total = {0, 0};
  const auto error_with = [&](const std::function<void(RunState&)>& change) {
    RunState state = good;
    change(state);
    return error_of([&] { check_stored_state(state, "step_23"); });
  };
  EXPECT_EQ(error_with([](RunState&) {}), "");
  EXPECT_EQ(error_with([](RunState& s) { s.next_step = s.step = 23, s.epoch = 0; }), "");
  EXPECT_EQ(error_with([](RunState& s) { s.step = 30, s.next_step = 10; }), "");
  for (const std::string& error :
       {error_with([](RunState& s) { s.next_step = 4; }),
        error_with([](RunState& s) { s.next_step = 13; }),
        error_with([](RunState& s) { s.next_step = 23; }),
        error_with([](RunState& s) { s.epoch = 0; }),
        error_with([](RunState& s) { s.epoch = int64_t{1} << 40; }),
        error_with([](RunState& s) { s.optimizer_steps = 24; }),
        error_with([](RunState& s) { s.bad_samples_total = {0}; }),
        error_with([](RunState& s) { s.bad_samples_in_epoch = {}; }),
        error_with([](RunState& s) { s.options = ""; }),
        error_with([](RunState& s) { s.options += "num_train_epochs = many\n"; }),
        error_with([](RunState& s) { s.options += "num_train_epochs = 9999999999999999999\n"; }),
        error_with([](RunState& s) { s.options += "num_train_epochs = 0\n"; })})
    EXPECT_TRUE(mentions(error, "65: step_23: "));
}

}  // namespace
}  // namespace facet
