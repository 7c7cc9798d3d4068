// The drawn scenes as data sets in the publishers' own formats, and the held-out scenes as an
// evaluation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet::tiny {

// DIRECTORY/
//   llava/{detail_23k,complex_reasoning_77k,conversation_58k}.json with coco/train2017/*.jpg
//   coco_caption/dataset.json with coco/2014/*.{jpg,png}
//   eval/held_out.json            {name: [[question, image path]]}
//   eval/held_out_shuffled.json   the same questions, each with another scene's image
//   eval/captions.json            {name: the caption of held_out.json's image}
// Returns every sentence that training can show, for the tokenizer.
std::vector<std::string> write_data(const std::string& directory, int64_t num_scenes,
                                    uint64_t seed);

}  // namespace facet::tiny
