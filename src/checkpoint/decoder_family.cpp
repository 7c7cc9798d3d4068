#include "checkpoint/decoder_family.h"

namespace facet {

const DecoderFamily* find_decoder_family(std::string_view model_type) {
  for (const DecoderFamily& family : kDecoderFamilies)
    if (model_type == family.model_type) return &family;
  return nullptr;
}

std::string decoder_family_names() {
  std::string names;
  for (size_t i = 0; i < kDecoderFamilies.size(); ++i) {
    if (i > 0) names += i + 1 < kDecoderFamilies.size() ? ", " : " and ";
    names += kDecoderFamilies[i].model_type;
  }
  return names;
}

}  // namespace facet
