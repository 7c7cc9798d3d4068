// What the fuzz targets share.
//
// A target is a file tests/fuzz/NAME.cpp that defines LLVMFuzzerTestOneInput: it hands any bytes to
// the program's own reader of one kind of file. `make fuzz` links each with libFuzzer; the test
// program (corpus_test.cpp) holds all of them and feeds them tests/fuzz/corpus/NAME.
//
// A reader may refuse bytes by an Error. A finding is anything else: another exception, an Error of
// kInternal (a failed ASSERT), a crash, undefined behaviour, a leak, or more time or memory than
// the limits in scripts/fuzz.sh.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#ifdef FACET_FUZZ_TARGET  // in the test program every target has a name of its own
#define FACET_JOIN_NAMES(a, b) a##b
#define FACET_FUNCTION_OF(name) FACET_JOIN_NAMES(fuzz_target_, name)
#define FACET_TEXT_OF_NAME(name) #name
#define FACET_TEXT_OF(name) FACET_TEXT_OF_NAME(name)
#define LLVMFuzzerTestOneInput FACET_FUNCTION_OF(FACET_FUZZ_TARGET)
#endif

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace facet::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `reader` on bytes that it may refuse. Returns what LLVMFuzzerTestOneInput must: 0.
int may_refuse(const std::function<void()>& reader);
// Why the last may_refuse() to end was refused; "" if its reader read all.
const std::string& last_refusal();

// Ends the process with this message unless the condition holds: for what must be true of
// everything that a reader accepts.
void require(bool condition, const std::string& message);

// The target's own directory for what the readers open, in $TMPDIR, removed at the end.
std::string scratch();
// Writes a file in it, with the directories above it, and returns its path.
std::string put(const std::string& name, std::string_view content);

// A file of the repository that a target needs beside its input, such as a tokenizer.
std::string fixture(const std::string& path);

using Target = int (*)(const uint8_t* data, size_t size);
// The targets of the test program.
bool add_target(const char* name, Target target);
Target choose_target(const std::string& name);  // nullptr when there is none

#ifdef FACET_FUZZ_TARGET
namespace {
[[maybe_unused]] const bool known =
    add_target(FACET_TEXT_OF(FACET_FUZZ_TARGET), LLVMFuzzerTestOneInput);
}
#endif

}  // namespace facet::fuzz
