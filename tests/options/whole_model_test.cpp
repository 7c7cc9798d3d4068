#include "options/whole_model.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

class WholeModel : public testing::Test {
 protected:
  void put(const std::string& type, const std::string& more = "") {
    directory_.put("config.json",
                   "{\"model_type\": \"llava\", \"text_config\": {\"model_type\": \"" + type +
                       "\"}, \"vision_config\": {}" + more + "}");
  }
  Options parsed(std::vector<std::string> words) {
    words.insert(words.begin(), {"--lm_model_name_or_path", directory_.path()});
    const ParsedOptions parsed = parse_options(Command::kEvaluate, words, 1);
    notes_ = parsed.notes;
    return parsed.options;
  }

  TemporaryDirectory directory_;
  std::vector<std::string> notes_;
};

TEST_F(WholeModel, SaysTheOtherOptions) {
  put("llama");
  const Options options = parsed({});
  EXPECT_EQ(options.vision_model_name_or_path, directory_.path());
  EXPECT_EQ(options.vis_proj, "mlp2x_gelu");
  EXPECT_EQ(options.vision_feature_layer, -2);
  EXPECT_TRUE(options.drop_class_token);
  EXPECT_EQ(options.chat_template, "vicuna");
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_EQ(notes_[0], directory_.path() +
                           " is a whole LLaVA model: --vis_proj mlp2x_gelu --vision_feature_layer "
                           "-2 --drop_class_token true --chat_template vicuna");

  put("llama", R"(, "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
                  "facet_chat_template": "mistral")");
  const Options full = parsed({"--vision_model_name_or_path", "clip"});
  EXPECT_EQ(full.vision_model_name_or_path, "clip");
  EXPECT_EQ(full.vision_feature_layer, -1);
  EXPECT_FALSE(full.drop_class_token);
  EXPECT_EQ(full.chat_template, "mistral");
  put("qwen2");
  EXPECT_EQ(parsed({}).chat_template, "original");
}

// Then its own message is the one to show, and no other asks for the vision encoder.
TEST_F(WholeModel, MayBeWhatIsNotThere) {
  const Options options =
      parse_options(Command::kEvaluate, {"--lm_model_name_or_path", directory_ / "none"}, 1)
          .options;
  EXPECT_THROW(check_paths(Command::kEvaluate, options), Error);
}

TEST_F(WholeModel, WhatIsGivenStandsOrIsAMistake) {
  put("llama");
  EXPECT_EQ(parsed({"--chat_template", "original"}).chat_template, "original");
  EXPECT_EQ(parsed({"--compat", "visualchat"}).chat_template, "original");
  EXPECT_EQ(parsed({"--vis_proj", "mlp2x_gelu"}).vis_proj, "mlp2x_gelu");
  try {
    parsed({"--vis_proj", "vit", "--vision_feature_layer", "-1"});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    const std::string what = error.what();
    EXPECT_NE(what.find("--vis_proj vit: the model in"), std::string::npos) << what;
    EXPECT_NE(what.find("has -2; leave the option out"), std::string::npos) << what;
  }
  directory_.put("adapter/projection.safetensors", "");
  EXPECT_EQ(parsed({"--adapter", directory_ / "adapter"}).chat_template, "original");
  EXPECT_EQ(parsed({"--adapter", directory_.path()}).chat_template, "vicuna") << "PEFT's own";
  put("llama", R"(, "facet_chat_template": "of a later version")");
  try {
    parsed({});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what())
                  .find("config.json: --chat_template: 'of a later version' is none of"),
              std::string::npos)
        << error.what();
  }
  put("llama");
  // A file of options gives them as well.
  directory_.put("run.cfg", "vision_feature_layer = -3\n");
  EXPECT_THROW(parsed({"--config", directory_ / "run.cfg"}), Error);
}

}  // namespace
}  // namespace facet
