#include "data/json_images.h"

#include "base/check.h"
#include "io/base64.h"
#include "io/json_member_scanner.h"

namespace facet {

std::string JsonImages::name_of(const std::string& id) const {
  return fmt::format("{}: image {}", file_.path(), id);
}

std::string JsonImages::read(const std::string& id) const {
  const std::optional<ImageIndex::Entry> entry = index_.find(id);
  CHECK(entry.has_value(), ExitCode::kMissingInput, "{}: not in the file", name_of(id));
  CHECK(entry->kind != ImageIndex::Kind::kTwice, ExitCode::kBadData,
        "{}: the id occurs twice in the file", name_of(id));
  CHECK(entry->kind == ImageIndex::Kind::kText, ExitCode::kBadData,
        "{}: expected a string of base64, found another value", name_of(id));
  CHECK(entry->bytes / 4 * 3 <= kMaxImageFileBytes, ExitCode::kBadData,
        "{}: {} bytes of base64 are more than an image of {} bytes", name_of(id), entry->bytes,
        kMaxImageFileBytes);
  std::string text(static_cast<size_t>(entry->bytes), '\0');
  file_.read_at(entry->offset, text.data(), entry->bytes);
  if (text.find('\\') != text.npos) text = json_text_of(text, name_of(id));
  return decode_base64(text, name_of(id));
}

}  // namespace facet
