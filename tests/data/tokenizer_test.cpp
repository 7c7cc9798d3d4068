#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/check.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

std::vector<int32_t> ids_of(const JsonValue& array) {
  std::vector<int32_t> ids;
  for (const JsonValue id : array) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

// A model directory with the test's tokenizer.model and the given added_tokens.json.
std::string model_directory(const std::string& name, const std::string& added_tokens) {
  const std::string directory = testing::TempDir() + "facet_tokenizer_" + name;
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  std::filesystem::copy(kGoldenDir + "/tokenizer.model", directory);
  if (!added_tokens.empty()) write_file(directory + "/added_tokens.json", added_tokens);
  return directory;
}

TEST(Tokenizer, IdsAndTextsAreThoseOfTransformers) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/tokens.json");
  const Tokenizer tokenizer(kGoldenDir, PromptStyle::kVisualChat);
  EXPECT_GE(golden.root().at("texts").size(), 30);
  for (const JsonValue record : golden.root().at("texts")) {
    const std::string text(record.at("text").as_string());
    SCOPED_TRACE(text);
    const std::vector<int32_t> ids = tokenizer.encode(text);
    EXPECT_EQ(ids, ids_of(record.at("ids")));
    // Transformers drops a space at the begin of a text; we keep it.
    std::string decoded = tokenizer.decode(ids);
    if (decoded.starts_with(' ')) decoded.erase(0, 1);
    EXPECT_EQ(decoded, record.at("decoded").as_string());
  }
}

TEST(Tokenizer, PlainTextComesBackExactly) {
  const Tokenizer tokenizer(kGoldenDir, PromptStyle::kCorrect);
  for (const std::string text :
       {"a red circle", "  two  spaces  ", "\t\n\r\n", "\U0001F600\U0001F468\u200D\U0001F469",
        "äöü 漢字", "e\u0301", "<imag", "<0x0A>", "### Image"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(Tokenizer, IdsWithoutATokenHaveNoText) {
  const Tokenizer tokenizer(kGoldenDir, PromptStyle::kCorrect);
  std::vector<int32_t> ids = tokenizer.encode("a red circle");
  ids.push_back(static_cast<int32_t>(tokenizer.vocab_size()) + 60);
  EXPECT_EQ(tokenizer.decode(ids), "a red circle");
}

TEST(Tokenizer, AddedTokensFollowTheVocabulary) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/tokens.json");
  const int64_t base = golden.root().at("base_size").as_int();
  const Tokenizer correct(kGoldenDir, PromptStyle::kCorrect);
  const Tokenizer compat(kGoldenDir, PromptStyle::kVisualChat);
  EXPECT_EQ(correct.base_vocab_size(), base);
  EXPECT_EQ(correct.image_header_id(), base);
  EXPECT_EQ(correct.image_id(), base + 1);
  EXPECT_EQ(correct.vocab_size(), base + 2);
  EXPECT_EQ(correct.bos_id(), 1);
  EXPECT_EQ(correct.eos_id(), 2);
  EXPECT_EQ(correct.pad_id(), 2);
  EXPECT_EQ(compat.vocab_size(), golden.root().at("size").as_int());
  for (const Tokenizer::AddedToken& token : compat.added_tokens())
    EXPECT_EQ(token.id, golden.root().at("added").at(token.text).as_int());
}

TEST(Tokenizer, TokensOfTheDirectoryAreReused) {
  const Tokenizer mine(model_directory("own", R"({"<pad>": 500, "<image>": 501})"),
                       PromptStyle::kCorrect);
  EXPECT_EQ(mine.base_vocab_size(), 502);
  EXPECT_EQ(mine.image_id(), 501);
  EXPECT_EQ(mine.image_header_id(), 502);
  EXPECT_EQ(mine.encode("<image><pad>"), (std::vector<int32_t>{501, 500}));
  EXPECT_EQ(mine.decode(std::vector<int32_t>{501, 500, 1, 2}), "");
}

TEST(Tokenizer, WrongDirectoriesAreRefused) {
  const auto message_of = [](const std::string& directory) -> std::string {
    try {
      Tokenizer(directory, PromptStyle::kCorrect);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message_of(model_directory("gap", R"({"<pad>": 502})")).find("without gaps"),
            std::string::npos);
  EXPECT_NE(message_of(model_directory("clash", R"({"<pad>": 7})")).find("another token"),
            std::string::npos);
  const std::string fast_only = model_directory("fast", "");
  std::filesystem::rename(fast_only + "/tokenizer.model", fast_only + "/tokenizer.json");
  EXPECT_NE(message_of(fast_only).find("not supported yet"), std::string::npos);
  const std::string rubbish = model_directory("rubbish", "");
  write_file(rubbish + "/tokenizer.model", "no model");
  EXPECT_NE(message_of(rubbish), "");
  EXPECT_NE(message_of(testing::TempDir() + "facet_tokenizer_nowhere"), "");
}

}  // namespace
}  // namespace facet
