// The formats that open_dataset() opens, one function and one file each.
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

// The image placeholder in the texts of the LLaVA files.
constexpr std::string_view kImagePlace = "<image>";

int64_t count_image_places(std::string_view text);
// The text without image placeholders and line breaks.
std::string clean_question(std::string_view text);
// Draws one of the questions, for data sets whose records are captions without a question.
const std::string& draw_question(const std::vector<std::string>& questions, RandomStream& draws);

}  // namespace facet
