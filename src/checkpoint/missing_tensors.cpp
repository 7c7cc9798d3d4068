#include "checkpoint/missing_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

namespace facet {

namespace {

using Names = std::set<std::string, std::less<>>;

// The files have `there` + rest where the model has `expected` + rest.
struct Prefixes {
  std::string_view expected, there;
};

bool has_digit(std::string_view text) { return text.find_first_of("0123456789") != text.npos; }

// Whether most of the missing tensors are there under the other prefix.
bool explains(const Prefixes& prefixes, const std::vector<std::string>& missing,
              const Names& others) {
  const auto is_there = [&](const std::string& name) {
    return name.starts_with(prefixes.expected) &&
           others.contains(std::string(prefixes.there) + name.substr(prefixes.expected.size()));
  };
  return 2 * std::count_if(missing.begin(), missing.end(), is_there) >
         static_cast<std::ptrdiff_t>(missing.size());
}

// What name and `other` begin with before the end that they share, of two parts at least. A prefix
// has no number: layers of other numbers are other layers.
std::optional<Prefixes> differing_prefixes(std::string_view name, std::string_view other) {
  for (size_t cut = 0; cut != name.npos; cut = name.find('.', cut)) {
    if (cut > 0) ++cut;  // behind the dot
    const std::string_view rest = name.substr(cut);
    if (rest.find('.') == rest.npos) break;
    if (!other.ends_with(rest)) continue;
    const Prefixes prefixes{name.substr(0, cut), other.substr(0, other.size() - rest.size())};
    if (!prefixes.there.empty() && !prefixes.there.ends_with('.')) continue;
    if (has_digit(prefixes.expected) || has_digit(prefixes.there)) break;
    return prefixes;
  }
  return std::nullopt;
}

std::string quoted(std::string_view prefix) {
  return prefix.empty() ? "no prefix" : fmt::format("\"{}\"", prefix);
}

std::string other_prefix(const std::vector<std::string>& missing, const Names& others) {
  for (const std::string& other : others) {
    const std::optional<Prefixes> prefixes = differing_prefixes(missing.front(), other);
    if (prefixes && explains(*prefixes, missing, others))
      return fmt::format(
          "the files have {}: with {} where {} is expected, as in the files of a larger or smaller "
          "model; save the part that is meant on its own (in Python: PART.save_pretrained())",
          other, quoted(prefixes->there), quoted(prefixes->expected));
  }
  return "";
}

bool any_holds(const Names& names, std::string_view part) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.find(part) != name.npos; });
}

}  // namespace

std::string why_missing(const std::vector<std::string>& missing,
                        const std::vector<std::string>& others, const std::string& directory) {
  const Names there(others.begin(), others.end());
  if (missing.size() == 1 && missing.front() == "lm_head.weight")
    return fmt::format(
        "a model without lm_head.weight uses its token table as the head too: if this one does, "
        "{}/config.json must say \"tie_word_embeddings\": true",
        directory);
  if (any_holds(there, ".qweight"))
    return "the files hold quantised weights (GPTQ, AWQ), which are not supported: give the "
           "directory of the original model";
  if (any_holds(there, ".lora_A."))
    return "the files are those of an adapter (PEFT): give its directory as --adapter, and here "
           "that of its base model";
  if (there.contains("tok_embeddings.weight"))
    return "the files have the names of the original format (consolidated.00.pth): give the "
           "converted repository (for Llama its name ends in -hf)";
  if (there.contains("lang_embed.weight") && any_holds(there, "lang_decoder."))
    return "the files hold a whole model of DeepSpeed-VisualChat: give that file as --projection, "
           "and here the directory of the model that it was trained from";
  return other_prefix(missing, there);
}

}  // namespace facet
