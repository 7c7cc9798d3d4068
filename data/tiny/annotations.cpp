#include "data/tiny/annotations.h"

#include <fmt/core.h>

#include <utility>

#include "data/prompt_texts.h"
#include "data/tiny/image_files.h"
#include "data/tiny/scenes.h"
#include "io/file.h"
#include "io/json.h"

namespace facet::tiny {
namespace {

using Turns = std::vector<std::pair<std::string, std::string>>;  // question, answer

constexpr const char* kDescribe = "What does this picture show?";

// Samples without a picture.
const Turns kTextOnly = {{"How many corners does a square have?", "four"},
                         {"How many corners does a triangle have?", "three"},
                         {"How many corners does a circle have?", "none"},
                         {"What is the opposite of small?", "large"},
                         {"What is the opposite of large?", "small"},
                         {"What is the opposite of left?", "right"},
                         {"What is the opposite of right?", "left"},
                         {"What is the opposite of top?", "bottom"},
                         {"What is the opposite of bottom?", "top"},
                         {"Is purple a color or a shape?", "a color"},
                         {"Is cross a color or a shape?", "a shape"},
                         {"Is green a color or a shape?", "a color"}};

std::string color(const Thing& thing) {
  return std::string(kColors[static_cast<size_t>(thing.color)]);
}
std::string shape(const Thing& thing) {
  return std::string(kShapes[static_cast<size_t>(thing.shape)]);
}

// One question about one of two things, which the question names so that only this one is meant.
Turns ask_about_one(const Scene& scene, RandomStream& draws) {
  const Thing& thing = scene[draws.below(scene.size())];
  const bool same_shape = scene[0].shape == scene[1].shape;
  const bool same_color = scene[0].color == scene[1].color;
  switch (draws.below(3)) {
    case 0:
      if (!same_shape)
        return {{fmt::format("Which color has the {}?", shape(thing)), color(thing)}};
      break;
    case 1:
      if (!same_color) return {{fmt::format("Where is the {} shape?", color(thing)), place(thing)}};
      break;
    default: break;
  }
  return {{fmt::format("What is {}?", place(thing)), "a " + noun(thing)}};
}

Turns talk_about(const Thing& thing) {
  return {{"Which shape do you see?", "a " + shape(thing)},
          {"Which color does it have?", color(thing)},
          {"Is it small or large?", std::string(kSizes[static_cast<size_t>(thing.size)])},
          {"Where is it?", place(thing)}};
}

// One annotation file in LLaVA's format.
class LlavaFile {
 public:
  LlavaFile(std::string path, std::vector<std::string>& sentences)
      : path_(std::move(path)), sentences_(sentences) {
    json_.begin_array();
  }
  // An empty image makes a text-only record.
  void add(const std::string& image, const Turns& turns) {
    json_.begin_object();
    json_.key("id").value(fmt::format("{:012}", count_++));
    if (!image.empty()) json_.key("image").value(image);
    json_.key("conversations").begin_array();
    for (size_t i = 0; i < turns.size(); ++i) {
      add_turn("human", (i == 0 && !image.empty() ? "<image>\n" : "") + turns[i].first);
      add_turn("gpt", turns[i].second);
      sentences_.push_back(turns[i].first);
      sentences_.push_back(turns[i].second);
    }
    json_.end_array();
    json_.end_object();
  }
  void write() {
    json_.end_array();
    write_file(path_, json_.take());
  }

 private:
  void add_turn(const char* from, const std::string& value) {
    json_.begin_object();
    json_.key("from").value(from);
    json_.key("value").value(value);
    json_.end_object();
  }

  std::string path_;
  std::vector<std::string>& sentences_;
  JsonWriter json_;
  int64_t count_ = 0;
};

void write_llava(const std::string& directory, int64_t num_scenes, const HeldOut& held_out,
                 uint64_t seed, std::vector<std::string>& sentences) {
  make_directories(directory + "/llava");
  make_directories(directory + "/coco/train2017");
  LlavaFile detail(directory + "/llava/detail_23k.json", sentences);
  LlavaFile reasoning(directory + "/llava/complex_reasoning_77k.json", sentences);
  LlavaFile conversation(directory + "/llava/conversation_58k.json", sentences);
  for (int64_t i = 0; i < num_scenes; ++i) {
    RandomStream draws(seed, "llava scene", static_cast<uint64_t>(i));
    const int64_t kind = i % 4;  // 0, 1: detail; 2: reasoning; 3: conversation
    const int num_things = kind == 2 ? 2 : 1;
    const Scene scene = random_scene(num_things, held_out, draws);
    const std::string image = fmt::format("{:012}.jpg", i);
    write_image(directory + "/coco/train2017/" + image, draw(scene, draws));
    if (kind == 2) {
      reasoning.add(image, ask_about_one(scene, draws));
    } else if (kind == 3) {
      conversation.add(image, talk_about(scene[0]));
    } else {
      detail.add(image, {{kDescribe, caption(scene)}});
    }
  }
  for (size_t i = 0; i < kTextOnly.size(); ++i) {
    LlavaFile& file = i % 3 == 2 ? conversation : detail;
    file.add("", {kTextOnly[i]});
  }
  detail.write();
  reasoning.write();
  conversation.write();
}

void write_coco_caption(const std::string& directory, int64_t num_scenes, const HeldOut& held_out,
                        uint64_t seed, std::vector<std::string>& sentences) {
  make_directories(directory + "/coco_caption");
  make_directories(directory + "/coco/2014");
  JsonWriter json;
  json.begin_object();
  json.key("dataset").value("drawn scenes");
  json.key("images").begin_array();
  for (int64_t i = 0; i < num_scenes; ++i) {
    RandomStream draws(seed, "coco scene", static_cast<uint64_t>(i));
    const Scene scene = random_scene(i % 4 == 3 ? 2 : 1, held_out, draws);
    const std::string image = fmt::format("COCO_train2014_{:012}.{}", i, i % 5 < 4 ? "jpg" : "png");
    write_image(directory + "/coco/2014/" + image, draw(scene, draws));
    sentences.push_back(caption(scene));
    json.begin_object();
    json.key("filename").value(image);
    json.key("split").value("train");
    json.key("sentences").begin_array();
    json.begin_object();
    json.key("raw").value(sentences.back());
    json.end_object();
    json.end_array();
    json.end_object();
  }
  json.end_array();
  json.end_object();
  write_file(directory + "/coco_caption/dataset.json", json.take());
}

std::string evaluation_name(size_t scene) { return fmt::format("held_out_{:03}", scene); }

// One evaluation file in which question i is asked about image (i + shift) mod n.
void write_evaluation(const std::string& path, const std::string& image_prefix, size_t num_scenes,
                      size_t shift) {
  JsonWriter json;
  json.begin_object();
  for (size_t i = 0; i < num_scenes; ++i) {
    const std::string image =
        fmt::format("{}/{}.png", image_prefix, evaluation_name((i + shift) % num_scenes));
    json.key(evaluation_name(i)).begin_array();
    json.begin_array();
    json.value(kDescribe);
    json.value(image);
    json.end_array();
    json.end_array();
  }
  json.end_object();
  write_file(path, json.take());
}

void write_held_out(const std::string& directory, const HeldOut& held_out, uint64_t seed) {
  const std::string images = directory + "/eval/images";
  make_directories(images);
  const std::vector<Thing> things = held_out.things();
  // An order in which neighbours have little in common, for the shuffled questions.
  const std::vector<int64_t> order = random_permutation(static_cast<int64_t>(things.size()),
                                                        RandomStream(seed, "evaluation order"));
  JsonWriter captions;
  captions.begin_object();
  for (size_t i = 0; i < things.size(); ++i) {
    RandomStream draws(seed, "held-out scene", i);
    const Scene scene = {things[static_cast<size_t>(order[i])]};
    write_image(fmt::format("{}/{}.png", images, evaluation_name(i)), draw(scene, draws));
    captions.key(evaluation_name(i)).value(caption(scene));
  }
  captions.end_object();
  write_file(directory + "/eval/captions.json", captions.take());
  write_evaluation(directory + "/eval/held_out.json", images, things.size(), 0);
  write_evaluation(directory + "/eval/held_out_shuffled.json", images, things.size(), 1);
}

}  // namespace

std::vector<std::string> write_data(const std::string& directory, int64_t num_scenes,
                                    uint64_t seed) {
  const HeldOut held_out(seed);
  std::vector<std::string> sentences;
  write_coco_caption(directory, num_scenes / 2, held_out, seed, sentences);
  write_llava(directory, num_scenes - num_scenes / 2, held_out, seed, sentences);
  write_held_out(directory, held_out, seed);
  // The fixed texts of prompts, each as often as to be worth pieces of its own.
  std::vector<std::string> fixed = load_caption_questions("");
  fixed.insert(fixed.end(), {load_system_text(""), "### Question:", "### Answer:", "### Image 1:"});
  for (int i = 0; i < 20; ++i) sentences.insert(sentences.end(), fixed.begin(), fixed.end());
  return sentences;
}

}  // namespace facet::tiny
