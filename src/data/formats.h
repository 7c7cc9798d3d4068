// The formats behind open_dataset(), one function and one file each.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "data/dataset.h"

namespace facet {

std::unique_ptr<Dataset> open_llava(const DatasetSources& sources);
std::unique_ptr<Dataset> open_llava_dial(const DatasetSources& sources);
std::unique_ptr<Dataset> open_coco_caption(const DatasetSources& sources);
std::unique_ptr<Dataset> open_minigpt4(const DatasetSources& sources);

// What stands at an image's place in the texts of the LLaVA files.
constexpr std::string_view kImagePlace = "<image>";

int64_t count_image_places(std::string_view text);
// The text without image places and line breaks.
std::string clean_question(std::string_view text);
// One of the questions, for data sets whose records are captions without a question.
const std::string& draw_question(const std::vector<std::string>& questions, RandomStream& draws);

}  // namespace facet
