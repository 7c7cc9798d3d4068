// The members of one JSON object in a file of any size, one after the other and without their
// values in memory: for files like {id: base64 text, ...} of many GB. Reads from the begin to the
// end once, in pieces.
//
// Text and escapes are as in io/json_scanner.h. What is inside a value is only looked at as far as
// needed to find its end; strings are checked by whoever reads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"

namespace facet {

struct JsonMember {
  std::string key;       // without escapes
  bool is_text = false;  // the value is a string; without: null, a number, an object, ...
  int64_t offset = 0;    // of the value's text in the file, behind the quotation mark
  int64_t bytes = 0;     // as written: escapes count as they stand
};

class JsonMemberScanner {
 public:
  // Keys beyond this are refused: it is another file.
  static constexpr int64_t kMaxKeyBytes = int64_t{64} << 10;

  // The file must outlive the scanner.
  explicit JsonMemberScanner(const InputFile& file);

  // The next member; nothing after the last. A file that is not one JSON object is Error(kBadData)
  // with the place and, where the begin of the file shows it, with what the file is instead.
  std::optional<JsonMember> next();
  int64_t position() const { return piece_begin_ + at_; }  // bytes of the file that are done

 private:
  bool at_end();
  char peek();  // '\0' at the end of the file
  char take();
  void skip_spaces();
  void expect(char c, const char* what);
  void open();
  bool close();  // whether it is the end of the object
  std::string take_key();
  // Goes behind the string's closing quotation mark; adds what stands before it to `text`, if any.
  void skip_string(std::string* text);
  void skip_other();  // a value that is not a string
  [[noreturn]] void refuse(const std::string& reason);
  [[noreturn]] void refuse_expecting(const char* what);

  const InputFile& file_;
  std::vector<char> piece_;
  int64_t piece_begin_ = 0, piece_bytes_ = 0, at_ = 0;  // at_: in the piece
  std::string last_key_;                                // for messages
  enum class Place : uint8_t { kBefore, kInside, kBehind } place_ = Place::kBefore;  // the object
};

// The text of a JSON string as it stands between its quotation marks, without escapes; `name` is
// for messages (kBadData).
std::string json_text_of(std::string_view as_written, const std::string& name);

}  // namespace facet
