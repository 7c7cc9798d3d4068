// The formats behind open_dataset(), one function and one file each.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "data/dataset.h"

namespace facet {

std::unique_ptr<Dataset> open_llava(const std::string& data_path);
std::unique_ptr<Dataset> open_llava_dial(const std::string& data_path);
std::unique_ptr<Dataset> open_coco_caption(const std::string& data_path);
std::unique_ptr<Dataset> open_minigpt4(const std::string& data_path);

// What stands at an image's place in the texts of the LLaVA files.
constexpr std::string_view kImagePlace = "<image>";

int64_t count_image_places(std::string_view text);
// The text without image places and line breaks.
std::string clean_question(std::string_view text);
// A request to describe an image, for data sets whose records are captions without a question.
std::string_view draw_caption_question(RandomStream& draws);

}  // namespace facet
