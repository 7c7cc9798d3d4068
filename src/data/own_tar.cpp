// tar:PATTERN, a user's own samples in tar shards (data/tar_index.h): an image KEY.jpg with a
// conversation KEY.json (data/conversation_record.h) or a caption KEY.txt. Members are read from
// their places; nothing is unpacked.
#include <charconv>

#include "base/check.h"
#include "data/annotation_files.h"
#include "data/conversation_record.h"
#include "data/formats.h"
#include "data/tar_index.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr int64_t kMaxTextBytes = int64_t{64} << 20;

class TarShards : public ImageSource {
 public:
  TarShards(const std::vector<std::string>& shards, const std::string& directory,
            const std::string& name)
      : shards_(shards), index_(shards, directory, name) {}

  const TarIndex& index() const { return index_; }
  std::vector<SourceFile> files() const {
    const std::vector<uint64_t> hashes = index_.hashes_of_shards(shards_.size());
    std::vector<SourceFile> files;
    for (size_t s = 0; s < shards_.size(); ++s) {
      const InputFile shard(shards_[s]);
      files.push_back(
          {shard.path(), shard.bytes(), shard.modified(), hashes[s], SourceFile::Hashed::kIndex});
    }
    return files;
  }
  const std::string& shard_of(int64_t sample) const { return shards_[index_.at(sample).shard]; }
  // "SHARD: KEY".
  std::string name_of(int64_t sample) const {
    return fmt::format("{}: {}", shard_of(sample), index_.key_of(index_.at(sample)));
  }
  // `what`: for messages, such as ".json".
  std::string read(int64_t sample, const TarIndex::Part& part, int64_t max_bytes,
                   const char* what) const {
    CHECK(part.bytes != TarIndex::Part::kTwice, ExitCode::kBadData, "{}: two members {}",
          name_of(sample), what);
    CHECK(part.bytes <= max_bytes, ExitCode::kBadData, "{}{}: {} bytes are more than {}",
          name_of(sample), what, part.bytes, max_bytes);
    std::string content(static_cast<size_t>(part.bytes), '\0');
    InputFile(shard_of(sample)).read_at(part.offset, content.data(), part.bytes);
    return content;
  }

  // A key is the number of the sample.
  ImageRef image(int64_t sample) const { return {this, std::to_string(sample)}; }
  std::string name_of(const std::string& key) const override {
    return name_of(number_of(key)) + " (the image)";
  }
  std::string read(const std::string& key) const override {
    const int64_t sample = number_of(key);
    return read(sample, index_.at(sample).image, kMaxImageFileBytes, " (the image)");
  }

 private:
  static int64_t number_of(const std::string& key) {
    int64_t sample = 0;
    std::from_chars(key.data(), key.data() + key.size(), sample);
    return sample;
  }

  std::vector<std::string> shards_;
  TarIndex index_;
};

class OwnTar : public Dataset {
 public:
  OwnTar(const DatasetChoice& choice, const DatasetSources& sources)
      : Dataset(choice.name),
        questions_(sources.caption_questions),
        shards_(choice.paths, sources.index_directory, choice.name) {
    check_record_count(name(), num_records());
  }

  int64_t num_records() const override { return shards_.index().size(); }
  std::string file_of(int64_t record) const override { return shards_.shard_of(record); }
  uint64_t fingerprint() const override { return shards_.index().hash(); }
  std::vector<SourceFile> files() const override { return shards_.files(); }

  RawSample read(int64_t record, RandomStream& draws) const override {
    const TarIndex::Entry& entry = shards_.index().at(record);
    const bool has_json = entry.json.bytes != TarIndex::Part::kNone;
    const bool has_caption = entry.caption.bytes != TarIndex::Part::kNone;
    CHECK(has_json || has_caption, ExitCode::kBadData, "{}: an image without .json or .txt",
          shards_.name_of(record));
    if (has_json) {
      const JsonDocument json =
          JsonDocument::parse_any_bytes(shards_.read(record, entry.json, kMaxTextBytes, ".json"),
                                        shards_.name_of(record) + ".json");
      if (!has_caption || has_conversation(json.root()))
        return conversation_of(json.root(), images_of(record));
    }
    return caption_of(record, draws);
  }

 private:
  std::vector<ImageRef> images_of(int64_t record) const {
    if (shards_.index().at(record).image.bytes == TarIndex::Part::kNone) return {};
    return {shards_.image(record)};
  }

  RawSample caption_of(int64_t record, RandomStream& draws) const {
    RawRound round;
    round.images = images_of(record);
    CHECK(!round.images.empty(), ExitCode::kBadData, "{}: a caption without an image",
          shards_.name_of(record));
    const std::string text =
        shards_.read(record, shards_.index().at(record).caption, kMaxTextBytes, ".txt");
    round.answer = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
    round.question = draw_text(questions_, draws);
    return {{std::move(round)}};
  }

  std::vector<std::string> questions_;
  TarShards shards_;
};

}  // namespace

std::unique_ptr<Dataset> open_own_tar(const DatasetChoice& choice, const DatasetSources& sources) {
  return std::make_unique<OwnTar>(choice, sources);
}

void index_own_tar(const DatasetChoice& choice, const DatasetSources& sources) {
  TarIndex::keep(choice.paths, sources.index_directory, choice.name);
}

}  // namespace facet
