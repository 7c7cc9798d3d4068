// The names of image files on a line that was typed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

// The words of the line as a shell cuts them: blanks separate them, "..." and '...' hold together
// what has blanks in it, a backslash (not between '...') takes the next character as it is. A word
// that is ~ or begins with ~/ begins with `home` instead, unless that is "". Error(kBadData): a
// quote that is not closed, or a backslash at the end.
std::vector<std::string> words_of_images(std::string_view line, const std::string& home);

}  // namespace facet
