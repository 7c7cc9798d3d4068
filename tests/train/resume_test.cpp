// What may and may not differ between a run and its continuation.
#include "train/resume.h"

#include <gtest/gtest.h>

#include <functional>

#include "../io/temporary_directory.h"
#include "options/option_table.h"

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

TEST(Resume, ChangedFilesAreNamedByTheirDataSet) {
  RunState stored = run_with({}), now = stored;
  stored.data_fingerprint = "0123 llava=1 own=2";
  now.data_fingerprint = "4567 llava=1 own=3";
  EXPECT_TRUE(mentions(error_of([&] { check_same_run(stored, now, "c"); }),
                       "these data sets have changed: own"));
  now.data_fingerprint = "4567 llava=1 own=2";
  EXPECT_TRUE(mentions(error_of([&] { check_same_run(stored, now, "c"); }), "choice of samples"));
  stored.data_fingerprint = "4567";  // of an older program
  EXPECT_EQ(error_of([&] { check_same_run(stored, now, "c"); }), "");
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
