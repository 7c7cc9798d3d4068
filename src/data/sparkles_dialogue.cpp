// sparkles_dialogue: Sparkles{CC,VG} with [{"dialogue": [{"role": "user", "content": text,
// "images":
// [{"image_id": id}, ...]}, {"role": "assistant", "content": text}, ...]}, ...] and ID.jpg as the
// images. The texts speak of an image as IMAGE#ID; each access draws one style of naming images
// (data/image_names.h) for the whole conversation.
//
// Left out: conversations with an odd number of turns, with other roles or order of them, of which
// an image is missing, and with more images than --max_num_image_per_sample.
#include <fmt/format.h>

#include <filesystem>
#include <unordered_set>

#include "base/check.h"
#include "data/annotation_files.h"
#include "data/bad_samples.h"
#include "data/formats.h"
#include "data/image_names.h"
#include "data/left_out.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kImageMark = "<Img><ImageHere></Img>";

// Numbers too are ids.
std::string id_of(const JsonValue& image) {
  const JsonValue id = image.at("image_id");
  return id.is_integer() ? std::to_string(id.as_int()) : std::string(id.as_string());
}

JsonValue turns_of_dialogue(const JsonValue& record) {
  const JsonValue turns = record.at("dialogue");
  if (!turns.is_array()) turns.reject("expected an array of turns");
  return turns;
}

std::vector<std::string> images_of_turn(const JsonValue& turn) {
  std::vector<std::string> ids;
  const std::optional<JsonValue> images = turn.find("images");
  if (!images || images->is_null()) return ids;
  if (!images->is_array()) images->reject("expected an array of images");
  for (const JsonValue image : *images) ids.push_back(id_of(image));
  return ids;
}

bool roles_alternate(const JsonValue& turns) {
  for (int64_t t = 0; t < turns.size(); ++t)
    if (turns.at(t).at("role").as_string() != (t % 2 == 0 ? "user" : "assistant")) return false;
  return true;
}

std::string without_marks(std::string_view text) {
  std::string clean;
  for (size_t at = text.find(kImageMark); at != text.npos; at = text.find(kImageMark)) {
    clean += text.substr(0, at);
    text.remove_prefix(at + kImageMark.size());
  }
  return clean.append(text);
}

// What is in a directory, read once: asking for each file by itself is slow where it is shared.
class ImagesThere {
 public:
  explicit ImagesThere(const std::string& directory) {
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error))
      paths_.insert(directory + "/" + entry->path().filename().string());
    CHECK(!error, ExitCode::kMissingInput, "{}: cannot be listed: {}", directory, error.message());
  }
  // Not among them: it may lie in a directory below, or be missing.
  bool contains(const ImageRef& image) const {
    std::error_code ignored;  // such as a name that is too long
    return paths_.contains(image.key) || fs::exists(image.key, ignored);
  }

 private:
  std::unordered_set<std::string> paths_;
};

// The two parts of the set: "CC" has SparklesDialogueCC/.
constexpr const char* kParts[] = {"CC", "VG"};

std::string images_of_part(const char* part) {
  return fmt::format("SparklesDialogue{}/images", part);
}

AnnotationLayout layout() {
  AnnotationLayout layout;
  for (const char* part : kParts) {
    layout.files.push_back(
        fmt::format("SparklesDialogue{}/annotations/SparklesDialogue{}.json", part, part));
    layout.image_directories.push_back(images_of_part(part));
  }
  return layout;
}

class SparklesDialogue : public Dataset {
 public:
  explicit SparklesDialogue(const DatasetSources& sources)
      : Dataset("sparkles_dialogue"), style_(sources.style), files_(name(), sources, layout()) {
    LeftOut left_out;
    for (const char* part : kParts) add_part(part, sources, left_out);
    left_out.tell(name(), num_records());
    check_record_count(name(), num_records());
  }

  bool multi_image() const override { return true; }
  int64_t num_records() const override { return static_cast<int64_t>(records_.size()); }
  std::string file_of(int64_t record) const override { return files_.path(place(record).part); }
  uint64_t fingerprint() const override { return files_.fingerprint(); }
  std::vector<SourceFile> files() const override { return files_.files(); }

  RawSample read(int64_t record, RandomStream& draws) const override {
    const auto naming = static_cast<ImageNaming>(draws.below(kNumImageNamings));
    const auto& [part, index] = place(record);
    const JsonValue turns = turns_of_dialogue(files_.root(part).at(index));
    RawSample sample{{}, ImageNumbers::kInText};
    std::vector<std::string> shown;
    for (int64_t t = 0; t + 1 < turns.size(); t += 2) {
      const JsonValue user = turns.at(t), assistant = turns.at(t + 1);
      if (!images_of_turn(assistant).empty()) assistant.reject("an answer with images");
      RawRound& round = sample.rounds.emplace_back();
      for (const std::string& id : images_of_turn(user)) {
        round.images.push_back(image(part, id));
        shown.push_back(id);
      }
      const std::string question = clean_question(without_marks(user.at("content").as_string()));
      round.question = text_of(question, shown, naming);
      round.answer = text_of(assistant.at("content").as_string(), shown, naming);
    }
    return sample;
  }

 private:
  struct Place {
    int32_t part = 0, index = 0;
  };

  const Place& place(int64_t record) const { return records_[static_cast<size_t>(record)]; }
  ImageRef image(int32_t part, const std::string& id) const {
    return images_[static_cast<size_t>(part)].at(id + ".jpg");
  }
  std::string text_of(std::string_view text, const std::vector<std::string>& shown,
                      ImageNaming naming) const {
    return capitalise_sentences(name_images(text, shown, naming, style_), style_);
  }

  void add_part(const char* name, const DatasetSources& sources, LeftOut& left_out) {
    const auto part = static_cast<int32_t>(images_.size());
    const std::string directory = data_file(sources, images_of_part(name));
    images_.emplace_back(directory, sources.outside_images);
    const ImagesThere there(directory);
    const JsonValue records = files_.root(part);
    if (!records.is_array()) records.reject("expected an array of records");
    for (int64_t i = 0; i < records.size(); ++i) {
      const std::string reason = why_not(part, records.at(i), there, sources.max_images);
      if (reason.empty()) {
        records_.push_back({part, static_cast<int32_t>(i)});
      } else {
        left_out.add(reason, records.at(i).where());
      }
    }
  }

  // A malformed record counts, and is bad when it is read.
  std::string why_not(int32_t part, const JsonValue& record, const ImagesThere& there,
                      int64_t max_images) const {
    try {
      const JsonValue turns = turns_of_dialogue(record);
      if (turns.size() % 2 != 0) return "an odd number of turns";
      if (!roles_alternate(turns)) return "roles are not user and assistant by turns";
      int64_t images = 0;
      for (const JsonValue turn : turns)
        for (const std::string& id : images_of_turn(turn)) {
          ++images;
          if (!there.contains(image(part, id))) return "an image is missing";
        }
      return why_not_so_many(images, max_images);
    } catch (const Error& error) {
      if (!means_bad_sample(error)) throw;
      return "";
    }
  }

  PromptStyle style_;
  AnnotationFiles files_;
  std::vector<ImageFiles> images_;  // of each part; not moved once a sample refers to them
  std::vector<Place> records_;
};

}  // namespace

std::unique_ptr<Dataset> open_sparkles_dialogue(const DatasetSources& sources) {
  return std::make_unique<SparklesDialogue>(sources);
}

}  // namespace facet
