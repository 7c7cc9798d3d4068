#include "io/pickle.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_map>

#include "base/check.h"

namespace facet {

using Kind = PickleValue::Kind;

namespace {

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr size_t kMaxValues = size_t{1} << 23;  // far more than a model's tensors need
constexpr size_t kMaxName = 256;                // of a global's module or name
constexpr size_t kMaxLine = size_t{1} << 16;    // of protocol 0

}  // namespace

// The stack machine that a pickle is a program for.
class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, const std::string& where,
                std::span<const std::string_view> allowed, Pickle& pickle)
      : rest_(bytes), where_(where), allowed_(allowed), pickle_(pickle) {}
  void run();

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ExitCode::kBadData, "{}: {}", where_, what);
  }
  [[noreturn]] void damaged() const { refuse("the pickle is truncated or damaged"); }

  // Each returns whether the opcode is one of its kind.
  bool push_constant(char op);
  bool push_text(char op);
  bool push_line(char op);
  bool build(char op);
  bool make_tuple(char op);
  bool remember(char op);
  bool make_object(char op);

  std::string_view take(size_t bytes);
  std::string_view take_line(size_t most);
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  int64_t long_number(size_t bytes);
  int64_t written_number();
  void check_protocol(int protocol) const;

  PickleValue* make(Kind kind);
  bool push(PickleValue* value) {
    stack_.push_back(value);
    return true;
  }
  bool push_integer(Kind kind, int64_t integer);
  PickleValue* pop();
  PickleValue* top_of(Kind kind);
  std::vector<const PickleValue*> pop_to_mark();
  bool add(Kind kind, std::vector<const PickleValue*> items);
  bool push_tuple(size_t size);
  bool push_from_mark(Kind kind);
  bool push_global(std::string_view module, std::string_view name);
  bool call();

  std::string_view rest_;
  const std::string& where_;
  std::span<const std::string_view> allowed_;
  Pickle& pickle_;
  std::vector<PickleValue*> stack_;  // nullptr: a mark
  std::unordered_map<int64_t, PickleValue*> memo_;
};

void PickleMachine::run() {
  for (;;) {
    const char op = take(1)[0];
    if (op == '.') break;
    const bool known = push_constant(op) || push_text(op) || push_line(op) || build(op) ||
                       make_tuple(op) || remember(op) || make_object(op);
    if (!known)
      refuse(fmt::format("the pickle holds opcode {:#04x}, which no dictionary of tensors needs",
                         static_cast<uint8_t>(op)));
  }
  pickle_.root_ = pop();
}

std::string_view PickleMachine::take(size_t bytes) {
  if (bytes > rest_.size()) damaged();
  const std::string_view taken = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return taken;
}

std::string_view PickleMachine::take_line(size_t most) {
  const size_t end = rest_.substr(0, most + 1).find('\n');
  if (end == rest_.npos) damaged();
  return take(end + 1).substr(0, end);
}

// Little-endian, two's complement.
int64_t PickleMachine::long_number(size_t bytes) {
  if (bytes > 8) refuse(fmt::format("the pickle holds an integer of {} bytes", bytes));
  const std::string_view digits = take(bytes);
  uint64_t value = !digits.empty() && digits.back() < 0 ? ~uint64_t{0} : 0;
  std::memcpy(&value, digits.data(), bytes);
  return static_cast<int64_t>(value);
}

// A line with a decimal number, as protocol 0 writes it; a long one ends with an L.
int64_t PickleMachine::written_number() {
  std::string_view digits = take_line(kMaxName);
  if (digits.ends_with('L')) digits.remove_suffix(1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) damaged();
  return number;
}

void PickleMachine::check_protocol(int protocol) const {
  if (protocol > 5) refuse(fmt::format("a pickle of protocol {}; 0 to 5 are read", protocol));
}

PickleValue* PickleMachine::make(Kind kind) {
  if (pickle_.values_.size() >= kMaxValues)
    refuse(fmt::format("the pickle holds more than {} values", kMaxValues));
  pickle_.values_.push_back({.kind = kind, .text = "", .items = {}});
  return &pickle_.values_.back();
}

bool PickleMachine::push_integer(Kind kind, int64_t integer) {
  push(make(kind));
  stack_.back()->integer = integer;
  return true;
}

PickleValue* PickleMachine::pop() {
  if (stack_.empty() || stack_.back() == nullptr) damaged();
  PickleValue* value = stack_.back();
  stack_.pop_back();
  return value;
}

PickleValue* PickleMachine::top_of(Kind kind) {
  if (stack_.empty() || stack_.back() == nullptr || stack_.back()->kind != kind) damaged();
  return stack_.back();
}

std::vector<const PickleValue*> PickleMachine::pop_to_mark() {
  const auto mark = std::find(stack_.rbegin(), stack_.rend(), nullptr);
  if (mark == stack_.rend()) damaged();
  std::vector<const PickleValue*> items(mark.base(), stack_.end());
  stack_.erase(mark.base() - 1, stack_.end());
  return items;
}

bool PickleMachine::push_constant(char op) {
  switch (op) {
    case 'N': return push(make(Kind::kNone));
    case '\x88': return push_integer(Kind::kBool, 1);
    case '\x89': return push_integer(Kind::kBool, 0);
    case 'J': return push_integer(Kind::kInt, number<int32_t>());
    case 'K': return push_integer(Kind::kInt, number<uint8_t>());
    case 'M': return push_integer(Kind::kInt, number<uint16_t>());
    case '\x8a': return push_integer(Kind::kInt, long_number(number<uint8_t>()));
    case 'G': return take(8), push(make(Kind::kFloat));
    case ']': return push(make(Kind::kList));
    case '}': return push(make(Kind::kDict));
    case ')': return push(make(Kind::kTuple));
    case '(': return push(nullptr);
    default: return false;
  }
}

bool PickleMachine::push_text(char op) {
  size_t bytes = 0;
  switch (op) {
    case '\x8c': bytes = number<uint8_t>(); break;
    case 'X': bytes = number<uint32_t>(); break;
    case '\x8d': bytes = number<uint64_t>(); break;
    default: return false;
  }
  const std::string_view text = take(bytes);
  push(make(Kind::kText));
  stack_.back()->text = text;
  return true;
}

// What protocols 0 and 1 write as a line.
bool PickleMachine::push_line(char op) {
  switch (op) {
    case 'I':
      if (rest_.starts_with("00\n") || rest_.starts_with("01\n"))
        return push_integer(Kind::kBool, take_line(2) == "01");
      return push_integer(Kind::kInt, written_number());
    case 'L': return push_integer(Kind::kInt, written_number());
    case 'F': return take_line(kMaxName), push(make(Kind::kFloat));
    case 'S':
    case 'V': {
      const std::string_view text = take_line(kMaxLine);
      push(make(Kind::kText));
      stack_.back()->text = text;
      return true;
    }
    default: return false;
  }
}

// Adds to the list or dictionary on top.
bool PickleMachine::add(Kind kind, std::vector<const PickleValue*> items) {
  PickleValue* container = top_of(kind);
  if (kind == Kind::kDict && items.size() % 2 != 0) damaged();
  container->items.insert(container->items.end(), items.begin(), items.end());
  return true;
}

bool PickleMachine::build(char op) {
  switch (op) {
    case 'a': return add(Kind::kList, {pop()});
    case 'e': return add(Kind::kList, pop_to_mark());
    case 's': {
      const PickleValue* value = pop();
      return add(Kind::kDict, {pop(), value});
    }
    case 'u': return add(Kind::kDict, pop_to_mark());
    case 'l': return push_from_mark(Kind::kList);
    case 'd': return push_from_mark(Kind::kDict);
    case 'b': return pop(), top_of(Kind::kDict), true;  // a state_dict's attributes: no tensors
    case '0': return pop(), true;
    default: return false;
  }
}

bool PickleMachine::push_tuple(size_t size) {
  std::vector<const PickleValue*> items(size);
  for (size_t i = size; i-- > 0;) items[i] = pop();
  push(make(Kind::kTuple));
  stack_.back()->items = std::move(items);
  return true;
}

bool PickleMachine::push_from_mark(Kind kind) {
  std::vector<const PickleValue*> items = pop_to_mark();
  push(make(kind));
  return add(kind, std::move(items));
}

bool PickleMachine::make_tuple(char op) {
  if (op >= '\x85' && op <= '\x87') return push_tuple(static_cast<size_t>(op - '\x85') + 1);
  return op == 't' && push_from_mark(Kind::kTuple);
}

// The memo: values that are used again. The protocol's number allows or forbids nothing, and frames
// (protocol 4) only help who reads from a stream.
bool PickleMachine::remember(char op) {
  const auto put = [&](int64_t key) {
    if (stack_.empty() || stack_.back() == nullptr) damaged();
    memo_[key] = stack_.back();
    return true;
  };
  const auto get = [&](int64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged();
    return push(found->second);
  };
  switch (op) {
    case 'q': return put(number<uint8_t>());
    case 'r': return put(number<uint32_t>());
    case 'p': return put(written_number());
    case '\x94': return put(std::ssize(memo_));
    case 'h': return get(number<uint8_t>());
    case 'j': return get(number<uint32_t>());
    case 'g': return get(written_number());
    case '\x80': return check_protocol(number<uint8_t>()), true;
    case '\x95': return take(8), true;
    default: return false;
  }
}

bool PickleMachine::push_global(std::string_view module, std::string_view name) {
  const std::string full = fmt::format("{}.{}", module, name);
  const bool known =
      full == kOrderedDict || std::find(allowed_.begin(), allowed_.end(), full) != allowed_.end();
  if (!known)
    refuse(
        fmt::format("the pickle asks for {}; only dictionaries of tensors are read and nothing "
                    "is executed. If you trust the file, convert it in Python: "
                    "save_pretrained(directory, safe_serialization=True)",
                    full));
  push(make(Kind::kGlobal));
  stack_.back()->text = full;
  return true;
}

bool PickleMachine::call() {
  const PickleValue* arguments = pop();
  const PickleValue* function = pop();
  if (function->kind != Kind::kGlobal || arguments->kind != Kind::kTuple) damaged();
  if (function->text == kOrderedDict) {
    if (!arguments->items.empty()) refuse("the pickle makes an OrderedDict of something");
    return push(make(Kind::kDict));
  }
  push(make(Kind::kCall));
  stack_.back()->text = function->text;
  stack_.back()->items = {arguments};
  return true;
}

bool PickleMachine::make_object(char op) {
  switch (op) {
    case 'c':
    case 'i': {  // 'i' also makes an object of the class, which none of those allowed needs
      const std::string_view module = take_line(kMaxName);
      return push_global(module, take_line(kMaxName)) && op == 'c';
    }
    case '\x93': {
      const PickleValue* name = pop();
      const PickleValue* module = pop();
      if (name->kind != Kind::kText || module->kind != Kind::kText) damaged();
      return push_global(std::string_view(module->text).substr(0, kMaxName),
                         std::string_view(name->text).substr(0, kMaxName));
    }
    case 'R': return call();
    case 'Q': {
      const PickleValue* id = pop();
      push(make(Kind::kPersistent));
      stack_.back()->items = {id};
      return true;
    }
    default: return false;
  }
}

Pickle::Pickle(std::string_view bytes, const std::string& where,
               std::span<const std::string_view> allowed) {
  PickleMachine(bytes, where, allowed, *this).run();
}

const char* name_of(PickleValue::Kind kind) {
  switch (kind) {
    case Kind::kNone: return "None";
    case Kind::kBool: return "a truth value";
    case Kind::kInt: return "an integer";
    case Kind::kFloat: return "a number";
    case Kind::kText: return "a string";
    case Kind::kTuple: return "a tuple";
    case Kind::kList: return "a list";
    case Kind::kDict: return "a dictionary";
    case Kind::kGlobal: return "a class";
    case Kind::kCall: return "an object";
    case Kind::kPersistent: return "a storage";
  }
  return "";
}

}  // namespace facet
