// Words to values and back.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/printable.h"
#include "options/option_table.h"

namespace facet {

namespace {

// ---- one word to one value; returns what is wrong, or nothing

std::string read(const std::string& word, int64_t& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc::result_out_of_range) return fmt::format("'{}' is too large", word);
  if (error != std::errc() || end != word.data() + word.size())
    return fmt::format("'{}' is not a whole number", word);
  return "";
}

std::string read(const std::string& word, double& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value))
    return fmt::format("'{}' is not a number", word);
  return "";
}

std::string read(const std::string& word, bool& value) {
  if (word != "true" && word != "false")
    return fmt::format("'{}' is neither true nor false; the name alone means true", word);
  value = word == "true";
  return "";
}

std::string read(const std::string& word, std::string& value) {
  value = word;
  return "";
}

// options.cfg has a line an option, and what is in it is shown on terminals.
std::string check_characters(const std::vector<std::string>& words) {
  const auto is_control = [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == '\x7f'; };
  for (const std::string& word : words)
    if (std::any_of(word.begin(), word.end(), is_control))
      return fmt::format("'{}' has a control character in it", printable(word));
  return "";
}

// ---- range and choices

std::string check_value(const OptionField& field, const std::string& value) {
  if (field.choices.empty()) return "";
  for (const std::string& choice : field.choices)
    if (choice == value) return "";
  for (const std::string& kind : field.kinds)
    if (value.starts_with(kind + ":")) return "";
  std::string list;
  for (const std::string& choice : field.choices) list += (list.empty() ? "" : ", ") + choice;
  for (const std::string& kind : field.kinds) list += fmt::format(", {}:PATH", kind);
  return fmt::format("'{}' is none of {}", value, list);
}

template <typename Number>
std::string check_value(const OptionField& field, Number value) {
  const double v = static_cast<double>(value);
  if (v >= field.low && v <= field.high) return "";
  if (std::isinf(field.high)) return fmt::format("{} is less than {}", value, field.low);
  return fmt::format("{} is not in {} to {}", value, field.low, field.high);
}

std::string check_value(const OptionField&, bool) { return ""; }

// ---- words to a member

template <typename T>
std::string assign(const OptionField& field, const std::vector<std::string>& words, T& target) {
  if constexpr (std::is_same_v<T, bool>) {
    if (words.empty()) return target = true, "";
  }
  if (words.empty()) return "needs a value";
  if (words.size() > 1) return fmt::format("takes one value, not {}", words.size());
  T value{};
  std::string wrong = read(words[0], value);
  if (wrong.empty()) wrong = check_value(field, value);
  if (wrong.empty()) target = value;
  return wrong;
}

template <typename T>
std::string assign(const OptionField& field, const std::vector<std::string>& words,
                   std::vector<T>& target) {
  if (words.empty()) return "needs at least one value";
  std::vector<T> values;
  for (const std::string& word : words) {
    T value{};
    std::string wrong = read(word, value);
    if (wrong.empty()) wrong = check_value(field, value);
    if (!wrong.empty()) return wrong;
    values.push_back(value);
  }
  target = values;
  return "";
}

// ---- values to words

std::string word_of(bool value) { return value ? "true" : "false"; }
std::string word_of(const std::string& value) { return value; }
template <typename Number>
std::string word_of(Number value) {
  return fmt::format("{}", value);  // the shortest digits that read back as the same number
}

template <typename T>
std::vector<std::string> words_of(const T& value) {
  return {word_of(value)};
}
template <typename T>
std::vector<std::string> words_of(const std::vector<T>& values) {
  std::vector<std::string> words;
  for (const T& value : values) words.push_back(word_of(value));
  return words;
}

}  // namespace

std::string set_option(const OptionField& field, const std::vector<std::string>& words,
                       Options& options) {
  std::string wrong = check_characters(words);
  if (!wrong.empty()) return wrong;
  return std::visit([&](auto member) { return assign(field, words, options.*member); },
                    field.member);
}

std::vector<std::string> option_words(const OptionField& field, const Options& options) {
  return std::visit([&](auto member) { return words_of(options.*member); }, field.member);
}

}  // namespace facet
