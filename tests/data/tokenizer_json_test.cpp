// tokenizer.json: the ids and texts of the tokenizers library, and what is refused.
#include "data/tokenizer_json.h"

#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>

#include "base/check.h"
#include "base/utf8.h"
#include "data/tokenizer.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

const std::string kTokenizers = kGoldenDir + "/tokenizers";
constexpr const char* kKinds[] = {"llama2", "llama3", "mistral", "qwen2"};

// The random texts of scripts/make_golden_tokenizer_json.py, from the same lists.
class RandomTexts {
 public:
  explicit RandomTexts(const JsonValue& golden) {
    for (const JsonValue list : golden.at("lists")) {
      lists_.emplace_back();
      for (const JsonValue text : list) lists_.back().emplace_back(text.as_string());
    }
    for (const JsonValue range : golden.at("ranges"))
      ranges_.emplace_back(range.at(int64_t{0}).as_int(), range.at(int64_t{1}).as_int());
  }

  std::string operator()(uint64_t number) {
    state_ = number;
    std::string text;
    for (uint64_t parts = below(13); parts > 0; --parts) add_part(text);
    return text;
  }

 private:
  uint64_t below(uint64_t n) {  // splitmix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (z ^ z >> 31) % n;
  }

  void add_part(std::string& text) {
    const uint64_t kind = below(lists_.size() + 2);
    const uint64_t times = 1 + below(4);
    if (kind < lists_.size()) {
      const std::string& fragment = lists_[kind][below(lists_[kind].size())];
      for (uint64_t i = 0; i < (kind == 1 ? times : 1); ++i) text += fragment;
      if (kind == 0 && below(2) == 1) text += ' ';
      return;
    }
    const auto [first, last] = ranges_[below(ranges_.size())];
    for (uint64_t i = 0; i < times; ++i)
      append_utf8(text,
                  static_cast<uint32_t>(first + static_cast<int64_t>(below(last - first + 1))));
  }

  uint64_t state_ = 0;
  std::vector<std::vector<std::string>> lists_;
  std::vector<std::pair<int64_t, int64_t>> ranges_;
};

class RunningHash {  // FNV-1a of 64 bits, a byte 255 after each
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) add_byte(static_cast<unsigned char>(byte));
    add_byte(255);
  }
  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  void add_byte(uint64_t byte) { value_ = (value_ ^ byte) * 0x100000001B3; }
  uint64_t value_ = 0xCBF29CE484222325;
};

std::vector<int32_t> ids_of(const JsonValue& array) {
  std::vector<int32_t> ids;
  for (const JsonValue id : array) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

// Two of three tokens, so that characters break off.
std::vector<int32_t> broken(const std::vector<int32_t>& ids) {
  std::vector<int32_t> some;
  for (size_t i = 0; i < ids.size(); ++i)
    if (i % 3 != 1) some.push_back(ids[i]);
  return some;
}

void hash_text(RunningHash& hash, const Tokenizer& tokenizer, std::string_view text,
               const std::vector<int32_t>& ids) {
  hash.add(text);
  hash.add({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)});
  hash.add(tokenizer.decode(ids));
  hash.add(tokenizer.decode(broken(ids)));
}

class TokenizerJsonKinds : public testing::TestWithParam<const char*> {
 protected:
  TokenizerJsonKinds() : tokenizer(kTokenizers + "/" + GetParam(), PromptStyle::kCorrect) {}
  Tokenizer tokenizer;
};
INSTANTIATE_TEST_SUITE_P(All, TokenizerJsonKinds, testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(TokenizerJsonKinds, IdsAndTextsAreThoseOfTheLibrary) {
  const JsonDocument golden = JsonDocument::read(kTokenizers + "/texts.json");
  const JsonValue expected = golden.root().at("kinds").at(GetParam());
  RandomTexts texts(golden.root());
  for (int64_t i = 0; i < expected.at("full").size(); ++i) {
    const JsonValue one = expected.at("full").at(i);
    const std::string text = texts(static_cast<uint64_t>(i));
    ASSERT_EQ(text, one.at("text").as_string());
    const std::vector<int32_t> ids = tokenizer.encode(text);
    ASSERT_EQ(ids, ids_of(one.at("ids"))) << i << ": " << text;
    ASSERT_EQ(tokenizer.decode(ids), one.at("decoded").as_string());
    ASSERT_EQ(tokenizer.decode(broken(ids)), one.at("broken").as_string());
  }
  const int64_t count = golden.root().at("texts").as_int();
  const int64_t noted_every = golden.root().at("noted_every").as_int();
  EXPECT_GE(count, 10'000);
  RunningHash hash;
  for (int64_t i = 0; i < count; ++i) {
    const std::string text = texts(static_cast<uint64_t>(i));
    const std::vector<int32_t> ids = tokenizer.encode(text);
    hash_text(hash, tokenizer, text, ids);
    if ((i + 1) % noted_every == 0) {
      ASSERT_EQ(hash.text(), expected.at("hashes").at(i / noted_every).as_string())
          << "one of the " << noted_every << " texts up to number " << i;
    }
  }
}

// Of this process: others on the machine do not count.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// A text without a space is one word.
TEST_P(TokenizerJsonKinds, LongWordsTakeNoLongerThanTheirLength) {
  for (const std::string part : {"a", "photograph", "\u6f22", " ", "1", "e\u0301"}) {
    std::string text;
    while (text.size() < 300'000) text += part;
    const double begin = cpu_seconds();
    EXPECT_FALSE(tokenizer.encode(text).empty());
    EXPECT_LT(cpu_seconds() - begin, 5) << part;  // a quadratic loop takes minutes
  }
}

TEST_P(TokenizerJsonKinds, WhatIsSurelyTooLongIsTrue) {
  const JsonDocument golden = JsonDocument::read(kTokenizers + "/texts.json");
  RandomTexts texts(golden.root());
  for (uint64_t i = 0; i < 1000; ++i) {
    const std::string text = texts(i);
    EXPECT_FALSE(tokenizer.exceeds(text, static_cast<int64_t>(tokenizer.encode(text).size())));
  }
  EXPECT_FALSE(tokenizer.exceeds(std::string(100'000, ' ') + "<both>", 1));
  EXPECT_TRUE(tokenizer.exceeds(std::string(100'000, 'a'), 100));
  std::string chinese;
  for (int i = 0; i < 50'000; ++i) chinese += "\u6f22";
  EXPECT_TRUE(tokenizer.exceeds(chinese, 100));
}

// A directory with a kind's files, changed: each text (of which there must be one) by another.
class Changed {
 public:
  explicit Changed(const std::string& kind)
      : directory(testing::TempDir() + "facet_tokenizer_json"),
        text_(read_file(kTokenizers + "/" + kind + "/tokenizer.json", 1 << 20)) {
    std::filesystem::remove_all(directory);
    std::filesystem::copy(kTokenizers + "/" + kind, directory);
  }
  // By "from" and "to" of the list.
  Changed& replace_all(const JsonValue& list) {
    for (const JsonValue change : list)
      replace(change.at(int64_t{0}).as_string(), change.at(int64_t{1}).as_string());
    return *this;
  }
  Changed& replace(std::string_view from, std::string_view to) {
    const size_t at = text_.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) text_.replace(at, from.size(), to);
    write_file(directory + "/tokenizer.json", text_);
    return *this;
  }
  std::string refusal() const {
    try {
      Tokenizer(directory, PromptStyle::kCorrect);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig) << error.what();
      return error.what();
    }
    return "";
  }

  const std::string directory;

 private:
  std::string text_;
};

TEST(TokenizerJson, IdsAndTextsOfOtherStepsAreThoseOfTheLibrary) {
  const JsonDocument golden = JsonDocument::read(kTokenizers + "/variants.json");
  const JsonDocument of_texts = JsonDocument::read(kTokenizers + "/texts.json");
  EXPECT_GT(golden.root().at("variants").size(), 10);
  for (const JsonValue variant : golden.root().at("variants")) {
    SCOPED_TRACE(variant.get_string("name", ""));
    Changed changed{std::string(variant.at("kind").as_string())};
    changed.replace_all(variant.at("changes"));
    const Tokenizer tokenizer(changed.directory, PromptStyle::kCorrect);
    RandomTexts texts(of_texts.root());
    RunningHash hash;
    for (int64_t i = 0; i < golden.root().at("texts").as_int(); ++i) {
      const std::string text = texts(static_cast<uint64_t>(i));
      const std::vector<int32_t> ids = tokenizer.encode(text);
      hash_text(hash, tokenizer, text, ids);
      EXPECT_FALSE(tokenizer.exceeds(text, static_cast<int64_t>(ids.size()))) << text;
    }
    EXPECT_EQ(hash.text(), variant.at("hash").as_string());
  }
}

TEST(TokenizerJson, WhatIsNotKnownIsRefusedWithItsPlace) {
  const auto refused = [](const char* kind, std::string_view from, std::string_view to,
                          const std::string& message) {
    const std::string refusal = Changed(kind).replace(from, to).refusal();
    EXPECT_NE(refusal.find("/tokenizer.json: "), std::string::npos) << refusal;
    EXPECT_NE(refusal.find(message), std::string::npos)
        << "expected: " << message << "\nfound: " << refusal;
  };
  refused("llama2", R"("type":"BPE")", R"("type":"Unigram")",
          "model: type Unigram is not supported");
  refused("llama2", R"("dropout":null)", R"("dropout":0.1)", "model.dropout: only null");
  refused("llama2", R"("end_of_word_suffix":null)", R"("end_of_word_suffix":"</w>")",
          "model.end_of_word_suffix: only null");
  refused("llama2", R"("fuse_unk":true)", R"("fuse_unk":true,"new":1)",
          "model.new: this member is not known");
  refused("llama2", "\"prepend\":\"\u2581\"", R"("prepend":"_")",
          "normalizer.normalizers[0].prepend: only \"\u2581\" is supported, not \"_\"");
  refused("llama2", R"("type":"Prepend")", R"("type":"NFKC")",
          "normalizer.normalizers[0]: type NFKC is not supported here, only NFC, Prepend");
  refused("llama2", R"({"type":"Fuse"},)", "", "decoder.decoders[2]: type Strip is not supported");
  refused("llama2", R"("start":1)", R"("start":2)", "decoder.decoders[3]: only start 1");
  refused("llama2", R"("<0x0A>":)", R"("<0x0a>":)",
          "model.byte_fallback: the vocabulary has no token <0x0A>");
  refused("llama2", R"("t h")", R"("t h x")", ": expected two tokens with a space");
  refused("llama3", R"(["t","h"])", R"(["t","h","x"])", "model.merges[");
  refused("llama3", R"(["t","h"])", R"(["th","th"])", "the vocabulary has no token thth");
  refused("llama3", R"("!":0)", R"("!":1)", "token ! has id 1 too");
  refused("llama3", R"("!":0)", R"("!":4000)", "model.vocab.!: id 4000 of ");
  refused("llama3", R"("!":0)", R"("!!!":0)", "model.vocab: there is no token for byte 0x21");
  refused("llama3", R"("behavior":"Isolated")", R"("behavior":"Kept")",
          R"(pre_tokenizer.pretokenizers[0].behavior: "Kept" is not supported)");
  refused("llama3", R"("pattern":{"Regex")", R"("pattern":{"Unknown")",
          "pre_tokenizer.pretokenizers[0].pattern.Unknown: this member is not known");
  refused("llama3", R"("Regex":")", R"("Regex":"\\w|)",
          R"(pre_tokenizer.pretokenizers[0].pattern.Regex: `\w` is not supported in a pattern)");
  refused("llama3", R"("Regex":")", R"("Regex":"[[a]&&b]|)", "`[` is not supported");
  refused("llama3", R"("Regex":")", R"("Regex":"a*|)", "also matches an empty text");
  refused("llama3", R"("Regex":")", R"("Regex":")|)", "unmatched closing parenthesis");
  refused("llama3", R"(,{"Sequence":{"id":"A","type_id":0}}],"pair")", R"(],"pair")",
          "the text itself is missing");
  refused("mistral", R"("type":"Metaspace")", R"("type":"Whitespace")",
          "pre_tokenizer: type Whitespace is not supported here");
  refused("mistral", R"("prepend_scheme":"first")", R"("prepend_scheme":"last")",
          "pre_tokenizer.prepend_scheme: only always, first and never");
  refused("qwen2", R"("added_tokens":[)", R"("added_tokens":[{"id":9,"content":"\ud83d"},)",
          "added_tokens[0]: the token's text is not valid UTF-8");
  refused("qwen2", R"({"type":"NFC"})", R"({"type":"Lowercase"})", "normalizer: type Lowercase");
}

std::string config(const std::string& members) {
  return "{\"eos_token\": \"<|endoftext|>\"" + members + "}";
}

TEST(TokenizerJson, TheOtherFilesNameBeginAndEnd) {
  Changed qwen("qwen2");
  const std::string file = qwen.directory + "/tokenizer_config.json";
  const auto begin = [&] { return Tokenizer(qwen.directory, PromptStyle::kCorrect).bos_id(); };
  const Tokenizer plain(qwen.directory, PromptStyle::kCorrect);
  EXPECT_FALSE(plain.bos_id());
  EXPECT_EQ(plain.encode("<|endoftext|>"), std::vector<int32_t>{plain.eos_id()});
  write_file(file, config(R"(, "add_bos_token": true, "bos_token": "<|im_start|>")"));
  EXPECT_EQ(begin(), plain.encode("<|im_start|>")[0]);
  write_file(file, config(R"(, "bos_token": "<|im_start|>")"));
  EXPECT_FALSE(begin());  // named, but the post-processor does not put it there
  write_file(file, config(R"(, "add_bos_token": true)"));
  EXPECT_NE(qwen.refusal().find("add_bos_token is true, but no file names a bos_token"),
            std::string::npos);
  write_file(file, "{}");
  EXPECT_NE(qwen.refusal().find("no file names an eos_token"), std::string::npos);
  const Tokenizer llama(kTokenizers + "/llama3", PromptStyle::kCorrect);
  EXPECT_EQ(llama.encode("<|begin_of_text|>"), std::vector<int32_t>{*llama.bos_id()});
}

// Ids of tokens that images need follow those of the file, and its flags go before the others'.
TEST(TokenizerJson, AddedTokensOfAllFilesAreThere) {
  Changed qwen("qwen2");
  const Tokenizer plain(qwen.directory, PromptStyle::kCorrect);
  const int64_t size = plain.base_vocab_size();
  EXPECT_EQ(plain.image_header_id(), size);
  EXPECT_EQ(plain.image_id(), size + 1);
  const int32_t both = plain.encode("<both>")[0];
  write_file(qwen.directory + "/tokenizer_config.json",
             config(fmt::format(R"(, "added_tokens_decoder": {{"{}": {{"content": "<both>"}},
                                "{}": {{"content": "<image>", "special": true}}}})",
                                both, size)));
  const Tokenizer more(qwen.directory, PromptStyle::kCorrect);
  EXPECT_EQ(more.image_id(), size);
  EXPECT_EQ(more.image_header_id(), size + 1);
  EXPECT_EQ(more.encode(" <both> "), std::vector<int32_t>{both});
}

TEST(TokenizerJson, ManyAddedTokensTakeNoLongerThanTheirNumber) {
  Changed qwen("qwen2");
  const int64_t first = Tokenizer(qwen.directory, PromptStyle::kCorrect).base_vocab_size();
  constexpr int64_t kCount = 100'000;
  std::string more;
  for (int64_t i = 0; i < kCount; ++i)
    more += fmt::format(R"({{"id":{},"content":"<{}>"}},)", first + i, i);
  qwen.replace(R"("added_tokens":[)", R"("added_tokens":[)" + more);
  const double begin = cpu_seconds();
  const Tokenizer tokenizer(qwen.directory, PromptStyle::kCorrect);
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "<";
  EXPECT_GT(tokenizer.encode(text).size(), 0u);
  EXPECT_EQ(tokenizer.encode("<99999>"), std::vector<int32_t>{static_cast<int32_t>(first + 99999)});
  EXPECT_LT(cpu_seconds() - begin, 3);  // a search in all of them for each takes longer
}

TEST(TokenizerJson, TokenizerModelGoesFirst) {
  Changed llama("llama2");
  EXPECT_EQ(tokenizer_file(llama.directory), "tokenizer.json");
  std::filesystem::copy(kGoldenDir + "/tokenizer.model", llama.directory);
  EXPECT_EQ(tokenizer_file(llama.directory), "tokenizer.model");
}

// Backtracking is bounded: the text is bad, and nothing hangs.
TEST(TokenizerJson, APatternThatTakesTooLongIsAnError) {
  Changed llama("llama3");
  llama.replace(R"("Regex":")", R"("Regex":"(?:[a-z]+ ?)+(?=9)|)");
  const Tokenizer tokenizer(llama.directory, PromptStyle::kCorrect);
  try {
    tokenizer.encode(std::string(100, 'a'));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find("of 100 bytes into words: match limit exceeded"),
              std::string::npos)
        << error.what();
  }
}

// A token in the white space that another one took along: the library takes what is behind it
// twice.
TEST(TokenizerJson, WhiteSpaceThatTwoTokensWantIsCutAsInTheLibrary) {
  Changed llama("llama3");
  llama.replace(R"("content":"<word>","single_word":true)",
                R"("content":"\r","single_word":false)");
  const Tokenizer tokenizer(llama.directory, PromptStyle::kCorrect);
  std::vector<int32_t> expected = tokenizer.encode("a<both>");
  for (const char* part : {"\r", "\nb"})
    for (const int32_t id : tokenizer.encode(part)) expected.push_back(id);
  EXPECT_EQ(tokenizer.encode("a<both>\r\nb"), expected);
}

TEST(TokenizerJson, TextThatIsNoUtf8IsRefused) {
  const Tokenizer tokenizer(kTokenizers + "/qwen2", PromptStyle::kCorrect);
  EXPECT_THROW(tokenizer.encode("a\xFF"), Error);
}

}  // namespace
}  // namespace facet
