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
std::unique_ptr<Dataset> open_aokvqa(const DatasetSources& sources);
std::unique_ptr<Dataset> open_ocr_vqa(const DatasetSources& sources);
std::unique_ptr<Dataset> open_otter_cgd(const DatasetSources& sources);
// "sd", "sn", "tvc", "vst".
std::unique_ptr<Dataset> open_otter_json_images(std::string_view set,
                                                const DatasetSources& sources);
std::unique_ptr<Dataset> open_llava_otter_blend(const DatasetSources& sources);
std::unique_ptr<Dataset> open_sparkles_dialogue(const DatasetSources& sources);
std::unique_ptr<Dataset> open_own_json(const DatasetChoice& choice, const DatasetSources& sources);
void index_own_json(const DatasetChoice& choice, const DatasetSources& sources);
std::unique_ptr<Dataset> open_own_tar(const DatasetChoice& choice, const DatasetSources& sources);
void index_own_tar(const DatasetChoice& choice, const DatasetSources& sources);
void index_otter_images(std::string_view set, const DatasetSources& sources);

// The image placeholder in the texts of the annotation files.
constexpr std::string_view kImagePlace = "<image>";

int64_t count_image_places(std::string_view text);
// The text without image placeholders and line breaks.
std::string clean_question(std::string_view text);
// Draws one of the texts, such as the questions for records that are captions without one.
const std::string& draw_text(const std::vector<std::string>& texts, RandomStream& draws);

}  // namespace facet
