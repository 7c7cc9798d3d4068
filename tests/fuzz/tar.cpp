// A tar shard: its members lie in the file, and its samples are read.
#include "base/rng.h"
#include "common/target.h"
#include "data/dataset.h"
#include "io/tar_scanner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::put("shard.tar", fuzz::text_of(data, size));
  return fuzz::may_refuse([&] {
    const InputFile file(path);
    TarScanner scanner(file);
    while (const auto member = scanner.next())
      fuzz::require(member->offset >= 0 && member->bytes >= 0 &&
                        member->offset + member->bytes <= file.bytes(),
                    "a member outside the file");
    DatasetSources sources;
    sources.caption_questions = {"What?"};
    const auto dataset = open_dataset(choose_datasets({"tar:" + path})[0], sources);
    for (int64_t record = 0; record < dataset->num_records(); ++record)
      fuzz::may_refuse([&] {
        RandomStream draws(1, "own", static_cast<uint64_t>(record));
        for (const RawRound& round : dataset->read(record, draws).rounds)
          for (const ImageRef& image : round.images) image.source->read(image.key);
      });
  });
}
