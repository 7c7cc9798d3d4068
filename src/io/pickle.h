// Values in a Python pickle, protocols 0 to 5 (PEP 307, 574; Lib/pickletools.py), as far as files
// of tensors need them. Nothing is executed: a global is a name, which must be one of those
// allowed, and a call is kept as a function's name with its arguments. Every other global and every
// opcode that could do more is refused by name.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,  // its value is not kept
    kText,
    kTuple,
    kList,
    kDict,        // also a collections.OrderedDict; items: key, value, key, value, ...
    kGlobal,      // text: "module.name"
    kCall,        // text: the function; items: the tuple of its arguments
    kPersistent,  // items: the one value that names an object outside
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // kBool, kInt
  std::string text;
  std::vector<const PickleValue*> items;
};

// "a dictionary"
const char* name_of(PickleValue::Kind kind);

class Pickle {
 public:
  // `where` begins messages; `allowed`: globals as "module.name", beside collections.OrderedDict.
  // kBadData.
  Pickle(std::string_view bytes, const std::string& where,
         std::span<const std::string_view> allowed);

  const PickleValue& root() const { return *root_; }

 private:
  friend class PickleMachine;
  std::deque<PickleValue> values_;  // a value may be in several places, or in itself
  const PickleValue* root_ = nullptr;
};

}  // namespace facet
