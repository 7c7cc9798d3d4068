// The alphabet of byte-level tokenizers (GPT-2's, since then those of LLaMA-3 and Qwen2): each byte
// is written as one printable character, so that every token is a text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace facet {

std::string byte_level_text(std::string_view bytes);
// The bytes that a text stands for; nothing if a character is outside the alphabet.
std::optional<std::string> byte_level_bytes(std::string_view text);

}  // namespace facet
