// otter_mimicit_{cgd,sd,sn,tvc,vst}: MIMIC-IT/X_instructions.json (data/mimic_it.h) with the images
// of cgd in coco/train2017 and those of the others in MIMIC-IT/X.json (data/json_images.h). All
// images of a conversation stand before its first round; each access shuffles the rounds.
#include <fmt/format.h>

#include <cctype>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "data/annotation_files.h"
#include "data/draws.h"
#include "data/formats.h"
#include "data/json_images.h"
#include "data/left_out.h"
#include "data/mimic_it.h"

namespace facet {

namespace {

constexpr const char* kCocoImages = "coco/train2017";

class OtterMimicIt : public Dataset {
 public:
  using Dataset::Dataset;

  bool multi_image() const override { return true; }
  int64_t num_records() const override { return conversations().size(); }

  RawSample read(int64_t record, RandomStream& draws) const override {
    RawSample sample{conversations().rounds(record), ImageNumbers::kInText};
    shuffle(sample.rounds, draws);
    sample.rounds[0].images = images_of(conversations().head(record));
    return sample;
  }

 protected:
  virtual const MimicItConversations& conversations() const = 0;
  virtual std::vector<ImageRef> images_of(const JsonValue& head) const = 0;
};

class OtterCgd : public OtterMimicIt {
 public:
  explicit OtterCgd(const DatasetSources& sources)
      : OtterMimicIt("otter_mimicit_cgd"),
        files_(name(), sources, {{"MIMIC-IT/CGD_instructions.json"}, {kCocoImages}, {}}),
        images_(data_file(sources, kCocoImages), sources.outside_images),
        conversations_(name(), files_.root(0), [&](const JsonValue& record) {
          return why_not_so_many(ids_of(record, "image_ids").size(), sources.max_images);
        }) {
    check_record_count(name(), num_records());
  }

  std::string file_of(int64_t) const override { return files_.path(0); }
  uint64_t fingerprint() const override { return files_.fingerprint(); }
  std::vector<SourceFile> files() const override { return files_.files(); }

 private:
  const MimicItConversations& conversations() const override { return conversations_; }
  std::vector<ImageRef> images_of(const JsonValue& head) const override {
    std::vector<ImageRef> images;
    for (const JsonValue id : ids_of(head, "image_ids"))
      images.push_back(images_.at(coco_file_of_cgd(id.as_string())));
    return images;
  }

  AnnotationFiles files_;
  ImageFiles images_;
  MimicItConversations conversations_;
};

// The file of images: "sd" has MIMIC-IT/SD.json.
std::string file_of_set(std::string_view set, const char* ending) {
  std::string file = "MIMIC-IT/";
  for (const char c : set) file += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return file + ending;
}

class OtterJsonImages : public OtterMimicIt {
 public:
  OtterJsonImages(std::string_view set, const DatasetSources& sources)
      : OtterMimicIt(fmt::format("otter_mimicit_{}", set)),
        files_(name(), sources,
               {{file_of_set(set, "_instructions.json")}, {}, {file_of_set(set, ".json")}}),
        images_(data_file(sources, file_of_set(set, ".json")), sources.index_directory),
        conversations_(name(), files_.root(0), [&](const JsonValue& record) {
          return why_not(record, sources.max_images);
        }) {
    tell_of_lost_images(data_file(sources, file_of_set(set, ".json")));
    check_record_count(name(), num_records());
  }

  std::string file_of(int64_t) const override { return files_.path(0); }
  uint64_t fingerprint() const override { return files_.fingerprint() ^ images_.fingerprint(); }
  std::vector<SourceFile> files() const override {
    std::vector<SourceFile> files = files_.files();
    files.push_back(images_.file());
    return files;
  }

 private:
  const MimicItConversations& conversations() const override { return conversations_; }

  // Without those that the file lacks.
  std::vector<ImageRef> images_of(const JsonValue& head) const override {
    std::vector<ImageRef> images;
    for (const JsonValue id : ids_of(head, "image_ids"))
      if (images_.contains(id.as_string())) images.push_back(images_.at(id.as_string()));
    return images;
  }

  std::string why_not(const JsonValue& record, int64_t max_images) const {
    const auto images = static_cast<int64_t>(images_of(record).size());
    return images == 0 ? "no image" : why_not_so_many(images, max_images);
  }

  // Of malformed heads reading them tells.
  void tell_of_lost_images(const std::string& file) const {
    int64_t lost = 0;
    std::string first;
    for (int64_t record = 0; record < num_records(); ++record) {
      const std::vector<std::string> missing = lost_images_of(conversations_.head(record));
      if (lost == 0 && !missing.empty()) first = missing[0];
      lost += static_cast<int64_t>(missing.size());
    }
    if (lost > 0)
      log("data set {}: {} images of its conversations are not in {} and are left out, the first "
          "is {}",
          name(), lost, file, first);
  }
  std::vector<std::string> lost_images_of(const JsonValue& head) const {
    std::vector<std::string> lost;
    try {
      for (const JsonValue id : ids_of(head, "image_ids"))
        if (!images_.contains(id.as_string())) lost.emplace_back(id.as_string());
    } catch (const Error&) {
      lost.clear();
    }
    return lost;
  }

  AnnotationFiles files_;
  JsonImages images_;
  MimicItConversations conversations_;
};

}  // namespace

std::unique_ptr<Dataset> open_otter_cgd(const DatasetSources& sources) {
  return std::make_unique<OtterCgd>(sources);
}

std::unique_ptr<Dataset> open_otter_json_images(std::string_view set,
                                                const DatasetSources& sources) {
  return std::make_unique<OtterJsonImages>(set, sources);
}

void index_otter_images(std::string_view set, const DatasetSources& sources) {
  const std::string path = data_file(sources, file_of_set(set, ".json"));
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return;  // whoever opens the data set says what is missing
  ImageIndex::keep(InputFile(path), sources.index_directory);
}

}  // namespace facet
