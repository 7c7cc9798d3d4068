#include "data/tiny/other_sets.h"

#include <fmt/core.h>

#include <functional>
#include <vector>

#include "data/tiny/image_files.h"
#include "data/tiny/scenes.h"
#include "io/base64.h"
#include "io/file.h"
#include "io/json.h"

namespace facet::tiny {
namespace {

using Texts = std::vector<std::string>;

// A scene of one thing for record i of a set, and its picture.
struct Picture {
  Thing thing;
  RgbImage image;
};

Picture picture_of(std::string_view set, uint64_t i, uint64_t seed) {
  RandomStream draws(seed, set, i);
  const Scene scene = random_scene(1, HeldOut(seed), draws);
  return {scene[0], draw(scene, draws)};
}

std::string color(const Thing& thing) {
  return std::string(kColors[static_cast<size_t>(thing.color)]);
}
std::string shape(const Thing& thing) {
  return std::string(kShapes[static_cast<size_t>(thing.shape)]);
}

void add_texts(JsonWriter& json, const char* key, const Texts& texts) {
  json.key(key).begin_array();
  for (const std::string& text : texts) json.value(text);
  json.end_array();
}

void write_aokvqa(const std::string& directory, uint64_t records, uint64_t seed) {
  JsonWriter json;
  json.begin_array();
  for (uint64_t i = 0; i < records; ++i) {
    const Picture picture = picture_of("aokvqa scene", i, seed);
    const auto image = static_cast<int64_t>(1'000'000 + i);
    write_image(fmt::format("{}/coco/train2017/{:012}.jpg", directory, image), picture.image);
    json.begin_object();
    json.key("image_id").value(image);
    json.key("question").value("Which shape do you see?");
    add_texts(json, "choices", {kShapes.begin(), kShapes.end()});
    json.key("correct_choice_idx").value(int64_t{picture.thing.shape});
    add_texts(json, "rationales",
              {"a " + noun(picture.thing), "It lies " + place(picture.thing) + "."});
    json.end_object();
  }
  json.end_array();
  make_directories(directory + "/aokvqa/annotations");
  write_file(directory + "/aokvqa/annotations/aokvqa_v1p0_train.json", json.take());
}

void write_ocr_vqa(const std::string& directory, uint64_t records, uint64_t seed) {
  make_directories(directory + "/OCR_VQA/images");
  JsonWriter json;
  json.begin_object();
  for (uint64_t i = 0; i < records; ++i) {
    const Picture picture = picture_of("ocr scene", i, seed);
    const std::string key = fmt::format("{:010}", i);
    write_image(fmt::format("{}/OCR_VQA/images/{}.jpg", directory, key), picture.image);
    json.key(key).begin_object();
    json.key("imageURL").value(fmt::format("http://books.example/I/{}.jpg", i));
    add_texts(json, "questions", {"Which color has the shape?", "Where is the shape?"});
    add_texts(json, "answers", {color(picture.thing), place(picture.thing)});
    json.key("split").value(int64_t{1});
    json.end_object();
  }
  json.end_object();
  write_file(directory + "/OCR_VQA/dataset.json", json.take());
}

void write_minigpt4(const std::string& directory, uint64_t records, uint64_t seed) {
  make_directories(directory + "/cc_sbu_align/image");
  JsonWriter json;
  json.begin_object();
  json.key("annotations").begin_array();
  for (uint64_t i = 0; i < records; ++i) {
    const Picture picture = picture_of("minigpt4 scene", i, seed);
    write_image(fmt::format("{}/cc_sbu_align/image/{}.jpg", directory, i), picture.image);
    json.begin_object();
    json.key("image_id").value(std::to_string(i));
    json.key("caption").value(caption({picture.thing}));
    json.end_object();
  }
  json.end_array();
  json.end_object();
  write_file(directory + "/cc_sbu_align/filter_cap.json", json.take());
}

// Two records about the same two pictures, of which the first brings the second into its
// conversation.
void add_comparison(JsonWriter& json, const std::string& id, const Texts& images,
                    const Texts& answers) {
  const Texts questions = {"What does the first picture show?",
                           "What does the second picture show?"};
  for (size_t k = 0; k < questions.size(); ++k) {
    json.key(fmt::format("{}_{}", id, k)).begin_object();
    json.key("instruction").value(questions[k]);
    json.key("answer").value(answers[k]);
    add_texts(json, "image_ids", images);
    add_texts(json, "rel_ins_ids", {fmt::format("{}_{}", id, 1 - k)});
    json.end_object();
  }
}

// A picture that is stored, and its id.
struct StoredPicture {
  std::string id;
  Thing thing;
};

// MIMIC-IT/SET_instructions.json with two pictures for each pair of records; `store` makes and
// stores number n.
void write_mimic_it(const std::string& directory, const std::string& set, uint64_t records,
                    const std::function<StoredPicture(uint64_t n)>& store) {
  JsonWriter json;
  json.begin_object();
  json.key("meta").begin_object();
  json.end_object();
  json.key("data").begin_object();
  for (uint64_t i = 0; i < records; ++i) {
    Texts images, answers;
    for (const uint64_t n : {2 * i, 2 * i + 1}) {
      const StoredPicture picture = store(n);
      images.push_back(picture.id);
      answers.push_back(caption({picture.thing}));
    }
    add_comparison(json, fmt::format("{}_INS_{:05}", set, i), images, answers);
  }
  json.end_object();
  json.end_object();
  write_file(fmt::format("{}/MIMIC-IT/{}_instructions.json", directory, set), json.take());
}

// The first picture of each comparison is one of LLaVA's, so that llava_otter_blend has them.
void write_cgd(const std::string& directory, uint64_t records, uint64_t seed) {
  write_mimic_it(directory, "CGD", records, [&](uint64_t n) -> StoredPicture {
    const bool of_llava = n % 2 == 0;
    const uint64_t image = of_llava ? 2 * n : 2'000'000 + n;
    const Picture picture = picture_of(of_llava ? "llava scene" : "CGD scene", image, seed);
    write_image(fmt::format("{}/coco/train2017/{:012}.jpg", directory, image), picture.image);
    return {fmt::format("CGD_IMG_{:012}", image), picture.thing};
  });
}

void write_base64_set(const std::string& directory, const std::string& set, uint64_t records,
                      uint64_t seed) {
  JsonWriter images;
  images.begin_object();
  write_mimic_it(directory, set, records, [&](uint64_t n) -> StoredPicture {
    const Picture picture = picture_of(set + " scene", n, seed);
    const std::string id = fmt::format("{}_IMG_{:06}", set, n);
    images.key(id).value(encode_base64(encode_jpeg(picture.image)));
    return {id, picture.thing};
  });
  images.end_object();
  write_file(fmt::format("{}/MIMIC-IT/{}.json", directory, set), images.take());
}

void add_turn(JsonWriter& json, const char* role, const std::string& content,
              const Texts& images = {}) {
  json.begin_object();
  json.key("role").value(role);
  json.key("content").value(content);
  json.key("images").begin_array();
  for (const std::string& id : images) {
    json.begin_object();
    json.key("image_id").value(id);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

void write_sparkles(const std::string& directory, const std::string& part, uint64_t records,
                    uint64_t seed) {
  const std::string root = directory + "/SparklesDialogue" + part;
  make_directories(root + "/images");
  make_directories(root + "/annotations");
  JsonWriter json;
  json.begin_array();
  for (uint64_t i = 0; i < records; ++i) {
    const std::string ids[] = {std::to_string(2 * i), std::to_string(2 * i + 1)};
    Thing things[2];
    for (const uint64_t k : {0, 1}) {
      const Picture picture = picture_of("Sparkles " + part, 2 * i + k, seed);
      things[k] = picture.thing;
      write_image(fmt::format("{}/images/{}.jpg", root, ids[k]), picture.image);
    }
    json.begin_object();
    json.key("dialogue").begin_array();
    add_turn(json, "user",
             fmt::format("<Img><ImageHere></Img>which shape does IMAGE#{} show?", ids[0]),
             {ids[0]});
    add_turn(json, "assistant", fmt::format("IMAGE#{} shows a {}.", ids[0], shape(things[0])));
    add_turn(json, "user",
             fmt::format("<Img><ImageHere></Img>which color does IMAGE#{} show?", ids[1]),
             {ids[1]});
    add_turn(json, "assistant",
             fmt::format("IMAGE#{} is {}. IMAGE#{} is {}.", ids[1], color(things[1]), ids[0],
                         color(things[0])));
    json.end_array();
    json.end_object();
  }
  json.end_array();
  write_file(fmt::format("{}/annotations/SparklesDialogue{}.json", root, part), json.take());
}

}  // namespace

void write_other_sets(const std::string& directory, int64_t records, uint64_t seed) {
  const auto n = static_cast<uint64_t>(records);
  write_minigpt4(directory, n, seed);
  write_aokvqa(directory, n, seed);
  write_ocr_vqa(directory, n, seed);
  make_directories(directory + "/MIMIC-IT");
  write_cgd(directory, n, seed);
  for (const char* set : {"SD", "SN", "TVC", "VST"}) write_base64_set(directory, set, n, seed);
  for (const char* part : {"CC", "VG"}) write_sparkles(directory, part, n, seed);
}

}  // namespace facet::tiny
