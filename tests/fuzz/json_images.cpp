// A file of many images, {id: base64, ...}: its index, and every image read by it. What a JSON
// reader of the whole text makes of it must be the same.
#include "data/json_images.h"

#include <vector>

#include "common/target.h"
#include "io/base64.h"
#include "io/json.h"
#include "io/json_member_scanner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::put("images.json", fuzz::text_of(data, size));
  return fuzz::may_refuse([&] {
    const InputFile file(path);
    JsonMemberScanner scanner(file);
    std::vector<std::string> ids;
    while (const auto member = scanner.next()) ids.push_back(member->key);
    const JsonImages images(path, "");
    for (const std::string& id : ids) {
      fuzz::require(images.contains(id), "an id is not in the index");
      fuzz::may_refuse([&] { images.read(id); });
    }
    const JsonDocument whole = JsonDocument::parse_any_bytes(fuzz::text_of(data, size), "images");
    fuzz::require(whole.root().size() == static_cast<int64_t>(ids.size()), "other members");
    for (size_t i = 0; i < ids.size(); ++i)
      fuzz::require(whole.root().member_as_written(static_cast<int64_t>(i)).first == ids[i],
                    "another id");
  });
}
