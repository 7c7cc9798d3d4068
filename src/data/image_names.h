// Names by which a conversation speaks of its images, and sentences that begin with a capital
// letter although such a name stands first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/prompt_style.h"

namespace facet {

enum class ImageNaming : uint8_t {
  kSmallLetters,    // image a, ..., image z, image aa
  kCapitalLetters,  // image A
  kOrdinals,        // the first image
};
constexpr int kNumImageNamings = 3;

// `index` counts from 0.
std::string image_name(ImageNaming naming, int64_t index);

// Every IMAGE#ID in the text by the name of the image: `ids` are those shown so far, in order of
// their appearance. Of several ids that fit at a place the longest counts; with kVisualChat the
// one that was shown first.
std::string name_images(std::string_view text, const std::vector<std::string>& ids,
                        ImageNaming naming, PromptStyle style);

// The first word of the text and each that follows '.', '?' or '!' and one white space gets a
// capital; kVisualChat also makes the rest of such a word small. A word is made of letters, digits
// and underscores.
std::string capitalise_sentences(std::string_view text, PromptStyle style);

}  // namespace facet
