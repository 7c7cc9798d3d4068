#include "train/export_plan.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/check.h"
#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

class ExportPlanTest : public ::testing::Test {
 protected:
  void make_export(const std::string& name) {
    make_directories(out_ + "/" + name + "/lang_decoder");
    write_file(out_ + "/" + name + "/projection.safetensors", "");
  }
  std::set<std::string> names() {
    std::set<std::string> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(out_))
      found.insert(entry.path().filename().string());
    return found;
  }
  // The options of a run that reads its language model from there.
  Options reading(const std::string& model) {
    Options options;
    options.output_dir = out_;
    options.lm_model_name_or_path = model;
    options.vision_model_name_or_path = directory_.path();
    return options;
  }
  void expect_refused(const std::string& model) {
    try {
      check_sources_stay(reading(model));
      ADD_FAILURE() << model;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      EXPECT_NE(std::string(error.what()).find(model), std::string::npos) << error.what();
    }
  }

  TemporaryDirectory directory_;
  const std::string out_ = directory_.path() + "/out";
};

// LoRA, alone or with what its adapter has whole beside it.
TEST_F(ExportPlanTest, AdaptersAreOfWhatAnAdapterHolds) {
  ParamTable table;
  table.begin_unit("head");
  table.add("lang_decoder.q.lora_right_weight", {2, 2}, ParamRole::kLora, Init::kZero);
  Param* head = table.add("lang_decoder.lm_head.weight", {2, 2}, ParamRole::kWeight, Init::kNone);
  const auto each_epoch = [&] { return plan_exports(Options{}, table).each; };
  table.set_trained("lang_decoder.q.", true);
  EXPECT_EQ(each_epoch(), ExportKind::kAdapter);
  head->trained = true;
  EXPECT_EQ(each_epoch(), ExportKind::kFull);
  head->saved_as = "lm_head.weight";
  EXPECT_EQ(each_epoch(), ExportKind::kAdapter);
}

TEST_F(ExportPlanTest, RemovesOnlyWhatARunNamesSo) {
  for (const char* name : {"epoch-1", "epoch-2", "epoch-10", "epoch-01", "epoch-+1", "epoch-1 ",
                           "epoch-0", "epoch-99999999999999999999", "best", "epoch-12"})
    make_export(name);
  make_directories(out_ + "/epoch-3");  // holds no export
  remove_old_exports(out_, 1, 10);
  EXPECT_EQ(names(),
            (std::set<std::string>{"epoch-10", "epoch-01", "epoch-+1", "epoch-1 ", "epoch-0",
                                   "epoch-99999999999999999999", "best", "epoch-12", "epoch-3"}));
}

TEST_F(ExportPlanTest, SourcesMayNotLieWhereTheRunExports) {
  make_export("epoch-7");
  make_export("best");
  make_export("epoch-07");
  fs::create_directory_symlink("out/best", directory_.path() + "/link");
  fs::create_directory_symlink(directory_.path() + "/models", out_ + "/epoch-2");
  make_directories(directory_.path() + "/models");
  for (const std::string model : {"/out/epoch-7/lang_decoder", "/out/../out/best/lang_decoder/",
                                  "/out/best", "/link", "/link/lang_decoder", "/out/epoch-2/lm"})
    expect_refused(directory_.path() + model);
  for (const std::string model : {"/models/lm", "/models", "/out/epoch-07/lang_decoder", "/out"})
    EXPECT_NO_THROW(check_sources_stay(reading(directory_.path() + model))) << model;
  Options exports_nothing = reading(out_ + "/best/lang_decoder");
  exports_nothing.export_kind = "none";
  EXPECT_NO_THROW(check_sources_stay(exports_nothing));
  Options from_adapter = reading(directory_.path() + "/models");
  from_adapter.adapter = out_ + "/epoch-7";
  EXPECT_THROW(check_sources_stay(from_adapter), Error);
}

}  // namespace
}  // namespace facet
