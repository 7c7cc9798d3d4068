#include "checkpoint/tokenizer_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr int64_t kMaxSmallFile = int64_t{256} << 20;

void write_added_tokens(const std::string& path, const ExportSources& sources) {
  JsonWriter writer;
  writer.begin_object();
  for (const AddedToken& token : sources.added_tokens)
    if (token.id >= sources.tokenizer_pieces) writer.key(token.text).value(int64_t{token.id});
  writer.end_object();
  write_file(path, writer.take());
}

void write_members_of_token(JsonWriter& writer, const AddedToken& token) {
  writer.key("content").value(token.text);
  writer.key("lstrip").value(token.lstrip);
  writer.key("normalized").value(token.normalized);
  writer.key("rstrip").value(token.rstrip);
  writer.key("single_word").value(token.single_word);
  writer.key("special").value(token.special);
}

void write_added_tokens_decoder(JsonWriter& writer, const ExportSources& sources) {
  writer.key("added_tokens_decoder").begin_object();
  for (const AddedToken& token : sources.added_tokens) {
    writer.key(fmt::format("{}", token.id)).begin_object();
    write_members_of_token(writer, token);
    writer.end_object();
  }
  writer.end_object();
}

void write_token_roles(JsonWriter& writer, const ExportSources& sources) {
  constexpr std::string_view kList = "additional_special_tokens";
  std::vector<std::string> further;
  for (const auto& [role, text] : sources.token_roles)
    if (role == kList) {
      further.push_back(text);
    } else {
      writer.key(role).value(text);
    }
  if (further.empty()) return;
  writer.key(kList).begin_array();
  for (const std::string& text : further) writer.value(text);
  writer.end_array();
}

// With this Transformers' LlamaTokenizer gives the ids that the model was trained with.
void write_llama_tokenizer_config(const std::string& path, const ExportSources& sources) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("tokenizer_class").value("LlamaTokenizer");
  writer.key("legacy").value(sources.space_marks == SpaceMarks::kEveryPiece);
  if (sources.space_marks == SpaceMarks::kNone) writer.key("add_prefix_space").value(false);
  writer.key("add_bos_token").value(true);
  writer.key("add_eos_token").value(false);
  writer.key("clean_up_tokenization_spaces").value(false);
  write_token_roles(writer, sources);
  write_added_tokens_decoder(writer, sources);
  writer.end_object();
  write_file(path, writer.take());
}

// The source's file with the added tokens of this run as its own.
void write_tokenizer_json(const std::string& path, const ExportSources& sources) {
  const JsonDocument source =
      JsonDocument::read(sources.tokenizer_file, ExitCode::kConfig, kMaxSmallFile);
  JsonWriter writer;
  writer.begin_object();
  for (int64_t i = 0; i < source.root().size(); ++i) {
    const auto [key, value] = source.root().member_as_written(i);
    if (key != "added_tokens") writer.key(key).value(value);
  }
  writer.key("added_tokens").begin_array();
  for (const AddedToken& token : sources.added_tokens) {
    writer.begin_object();
    writer.key("id").value(int64_t{token.id});
    write_members_of_token(writer, token);
    writer.end_object();
  }
  writer.end_array();
  writer.end_object();
  write_file(path, writer.take());
}

// Members of tokenizer_config.json that an export writes itself.
bool is_about_tokens(const ExportSources& sources, std::string_view key) {
  const auto names = [&](const auto& role) { return role.first == key; };
  return key == "added_tokens_decoder" || key == "extra_special_tokens" ||
         std::any_of(sources.token_roles.begin(), sources.token_roles.end(), names);
}

void write_tokenizer_config(const std::string& path, const ExportSources& sources) {
  const std::string source = sources.pretrained.lm_directory + "/tokenizer_config.json";
  JsonWriter writer;
  writer.begin_object();
  if (std::error_code ignored; std::filesystem::exists(source, ignored)) {
    const JsonDocument document = JsonDocument::read_config(source);
    for (int64_t i = 0; i < document.root().size(); ++i) {
      const auto [key, value] = document.root().member_as_written(i);
      if (!is_about_tokens(sources, key)) writer.key(key).value(value);
    }
  } else {
    writer.key("tokenizer_class").value("PreTrainedTokenizerFast");
  }
  write_token_roles(writer, sources);
  write_added_tokens_decoder(writer, sources);
  writer.end_object();
  write_file(path, writer.take());
}

}  // namespace

bool copy_if_there(const std::string& from, const std::string& to) {
  std::error_code ignored;
  if (!std::filesystem::exists(from, ignored)) return false;
  write_file(to, read_file(from, kMaxSmallFile));
  return true;
}

void write_tokenizer(const std::string& directory, const ExportSources& sources) {
  if (sources.tokenizer_file.empty()) return;
  CHECK(std::filesystem::exists(sources.tokenizer_file), ExitCode::kMissingInput,
        "{}: the tokenizer no longer exists; it was read from there at the start",
        sources.tokenizer_file);
  if (sources.tokenizer_file.ends_with(".json")) {
    write_tokenizer_json(directory + "/tokenizer.json", sources);
    write_tokenizer_config(directory + "/tokenizer_config.json", sources);
    return;
  }
  copy_if_there(sources.tokenizer_file, directory + "/tokenizer.model");
  write_added_tokens(directory + "/added_tokens.json", sources);
  write_llama_tokenizer_config(directory + "/tokenizer_config.json", sources);
}

}  // namespace facet
