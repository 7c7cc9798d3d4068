// A few drawn scenes in the layout of every other data set that facet reads, to train and test on.
#pragma once

#include <cstdint>
#include <string>

namespace facet::tiny {

// DIRECTORY/{aokvqa,OCR_VQA,MIMIC-IT,SparklesDialogueCC,SparklesDialogueVG,cc_sbu_align}, `records`
// records or conversations each. Those about COCO's images need what write_data() has drawn: its
// scene i of LLaVA for each i below 4 * records.
void write_other_sets(const std::string& directory, int64_t records, uint64_t seed);

}  // namespace facet::tiny
