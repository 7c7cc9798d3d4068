// Base64 (RFC 4648, section 4), read strictly.
#pragma once

#include <string>
#include <string_view>

namespace facet {

// The bytes that `text` encodes. Anything else is Error(kBadData), which begins with `name` and
// says where: characters outside the alphabet (white space too), a length that is no multiple of
// four, '=' anywhere but at the end.
std::string decode_base64(std::string_view text, const std::string& name);

std::string encode_base64(std::string_view bytes);

}  // namespace facet
