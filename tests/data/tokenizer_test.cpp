#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

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
  for (const AddedToken& token : compat.added_tokens())
    EXPECT_EQ(token.id, golden.root().at("added").at(token.text).as_int());
}

std::string json_text(const JsonValue& value) {
  JsonWriter writer;
  writer.value(value);
  return writer.take();
}

// scripts/make_golden_tokenizers.py: every way in which the files name tokens.
TEST(Tokenizer, DirectoriesAreReadAsTransformersReadsThem) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/tokenizer_directories.json");
  const JsonValue texts = golden.root().at("texts");
  EXPECT_GE(golden.root().at("cases").size(), 20);
  for (const JsonValue expected : golden.root().at("cases")) {
    SCOPED_TRACE(expected.at("name").as_string());
    const std::string directory = model_directory("golden", "");
    for (int64_t i = 0; i < expected.at("files").size(); ++i) {
      const auto [file, content] = expected.at("files").member(i);
      write_file(directory + "/" + std::string(file), json_text(content));
    }
    const Tokenizer correct(directory, PromptStyle::kCorrect);
    const Tokenizer compat(directory, PromptStyle::kVisualChat);
    EXPECT_EQ(correct.base_vocab_size(), expected.at("base_size").as_int());
    EXPECT_EQ(compat.vocab_size(), expected.at("size_compat").as_int());
    EXPECT_EQ(compat.vocab_size() - correct.vocab_size(),
              expected.at("names_pad").as_bool() ? 0 : 1);
    EXPECT_EQ(names_pad_token(directory), expected.at("names_pad").as_bool());
    EXPECT_EQ(correct.bos_id(), expected.at("bos").as_int());
    EXPECT_EQ(correct.eos_id(), expected.at("eos").as_int());
    EXPECT_EQ(correct.image_header_id(), expected.at("header").as_int());
    EXPECT_EQ(correct.image_id(), expected.at("image").as_int());
    for (int64_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(correct.encode(texts.at(i).as_string()), ids_of(expected.at("ids").at(i)))
          << texts.at(i).as_string();
  }
}

// A run goes on only with the same ids.
TEST(Tokenizer, FilesThatDecideAboutIdsHaveAnIdentity) {
  std::set<std::string> identities;
  const auto identity_with = [](const std::string& file, const std::string& content) {
    const std::string directory = model_directory("identity", "");
    write_file(directory + "/" + file, content);
    return read_tokenizer_files(directory).identity();
  };
  EXPECT_EQ(identity_with("tokenizer_config.json", R"({"chat_template": "x"})"), "");
  for (const auto& [file, content] : std::initializer_list<std::pair<const char*, const char*>>{
           {"added_tokens.json", R"({"<pad>": 500})"},
           {"tokenizer_config.json",
            R"({"added_tokens_decoder": {"500": {"content": "<pad>", "special": true}}})"},
           {"tokenizer_config.json",
            R"({"added_tokens_decoder": {"500": {"content": "<pad>", "lstrip": true}}})"},
           {"tokenizer_config.json", R"({"eos_token": "<pad>"})"},
           {"special_tokens_map.json", R"({"pad_token": "<pad>"})"},
           {"tokenizer_config.json", R"({"legacy": false})"}})
    EXPECT_TRUE(identities.insert(identity_with(file, content)).second) << content;
  EXPECT_FALSE(identities.contains(""));
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
  const auto refused = [&](const std::string& added, const std::string& why) {
    EXPECT_NE(message_of(model_directory("bad", added)).find(why), std::string::npos) << why;
    const std::string directory = model_directory("bad", "");
    std::string decoder;
    const JsonDocument document = JsonDocument::parse(added, "");
    for (int64_t i = 0; i < document.root().size(); ++i) {
      const auto [text, id] = document.root().member(i);
      decoder += fmt::format("{}\"{}\": {{\"content\": \"{}\"}}", i ? ", " : "", id.as_int(), text);
    }
    write_file(directory + "/tokenizer_config.json",
               "{\"added_tokens_decoder\": {" + decoder + "}}");
    EXPECT_NE(message_of(directory).find(why), std::string::npos) << message_of(directory);
    EXPECT_NE(message_of(directory).find("tokenizer_config.json: added_tokens_decoder."),
              std::string::npos)
        << message_of(directory);
  };
  refused(R"({"<pad>": 502})", "<pad> has id 502, expected 500: ids must follow");
  refused(R"({"<pad>": 7})", "another token");
  refused(R"({"<pad>": -1})", "-1 is no id");
  refused(R"({"<pad>": 4294967296})", "4294967296 is no id");
  refused(R"({"le": 500})", "it is token");
  refused(R"({"": 500})", "a token without text");
  const std::string parts = model_directory("parts", "");
  std::filesystem::rename(parts + "/tokenizer.model", parts + "/vocab.json");
  EXPECT_NE(message_of(parts).find("tokenizer.model: there is no such file, nor a tokenizer.json; "
                                   "vocab.json and merges.txt alone are not read"),
            std::string::npos);
  const std::string rubbish = model_directory("rubbish", "");
  write_file(rubbish + "/tokenizer.model", "no model");
  EXPECT_NE(message_of(rubbish).find("not a SentencePiece model"), std::string::npos);
  write_file(rubbish + "/tokenizer.model", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_NE(
      message_of(rubbish).find("tokenizer.model: a Git LFS pointer, not a SentencePiece model; "
                               "fetch the file itself: git lfs pull"),
      std::string::npos);
  EXPECT_NE(message_of(testing::TempDir() + "facet_tokenizer_nowhere"), "");
}

}  // namespace
}  // namespace facet
