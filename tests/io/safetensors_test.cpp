#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>

#include "io/file.h"
#include "io/tensor_directory.h"
#include "temporary_directory.h"

namespace facet {
namespace {

// A file from a hand-written header and data.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t bytes = header.size();
  return std::string(reinterpret_cast<const char*>(&bytes), 8) + header + data;
}

TensorToWrite values(std::string name, std::vector<int64_t> shape, std::vector<float> data) {
  return {std::move(name), std::move(shape),
          [data = std::move(data)](int64_t begin, int64_t count, float* out) {
            std::copy_n(data.begin() + begin, count, out);
          }};
}

TEST(Safetensors, WhatIsWrittenReadsBack) {
  TemporaryDirectory directory;
  std::vector<float> large(300000);  // more than one piece
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i) * 0.37f;
  write_safetensors(directory / "m.safetensors",
                    {values("z", {3, 100000}, large),
                     values("a.weight", {2, 1, 2}, {1, -2, 0.1f, 4}), values("empty", {0, 7}, {})});
  const SafetensorsFile file(directory / "m.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.find("a.weight")->shape, (std::vector<int64_t>{2, 1, 2}));
  EXPECT_EQ(file.find("a.weight")->begin % 8, 0);
  EXPECT_LT(file.find("a.weight")->begin, file.find("z")->begin);  // sorted
  std::vector<float> back(large.size(), std::nanf(""));
  file.read_f32("z", 0, 300000, back.data());
  EXPECT_EQ(back, large);
  std::vector<float> slice(97, std::nanf(""));
  file.read_f32("z", 262100, 97, slice.data());  // across a piece's end
  for (size_t i = 0; i < slice.size(); ++i) EXPECT_EQ(slice[i], large[262100 + i]);
  EXPECT_THROW(file.read_f32("z", 299999, 2, slice.data()), Error);
  EXPECT_THROW(file.read_f32("q", 0, 1, slice.data()), Error);
}

// The value of a 16-bit pattern by its definition, in double.
double defined_value(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int sign = bits >> 15;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double value = exponent == 0
                     ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                     : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  if (exponent == (1 << exponent_bits) - 1)
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
  return sign ? -value : value;
}

TEST(Safetensors, Every16BitPatternConvertsExactly) {
  std::string data(2 * 65536, '\0');
  for (int bits = 0; bits < 65536; ++bits) {
    data[static_cast<size_t>(2 * bits)] = static_cast<char>(bits & 0xff);
    data[static_cast<size_t>(2 * bits + 1)] = static_cast<char>(bits >> 8);
  }
  TemporaryDirectory directory;
  const std::string path = directory.put(
      "h.safetensors",
      file_of(R"({"b":{"dtype":"BF16","shape":[65536],"data_offsets":[0,131072]},)"
              R"("h":{"dtype":"F16","shape":[256,256],"data_offsets":[131072,262144]}})",
              data + data));
  const SafetensorsFile file(path);
  std::vector<float> bf16(65536), f16(65536);
  file.read_f32("b", 0, 65536, bf16.data());
  file.read_f32("h", 0, 65536, f16.data());
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    for (const auto& [got, expected] :
         {std::pair{bf16[static_cast<size_t>(i)], defined_value(bits, 8, 7)},
          std::pair{f16[static_cast<size_t>(i)], defined_value(bits, 5, 10)}}) {
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(got)) << i;
      } else {
        EXPECT_EQ(static_cast<double>(got), expected) << i;
        EXPECT_EQ(std::signbit(got), std::signbit(expected)) << i;
      }
    }
  }
}

TEST(Safetensors, IntegersAreReadableButAreNoParameters) {
  TemporaryDirectory directory;
  const int64_t number = -5;
  const std::string path =
      directory.put("i.safetensors",
                    file_of(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                            R"("u":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}})",
                            std::string(reinterpret_cast<const char*>(&number), 8) + "\x07\xff"));
  const SafetensorsFile file(path);
  int64_t out[2] = {};
  file.read_i64("i", 0, 1, out);
  EXPECT_EQ(out[0], -5);
  file.read_i64("u", 0, 2, out);
  EXPECT_EQ(out[1], 255);
  float real = 0;
  EXPECT_TRUE(mentions(error_of([&] { file.read_f32("i", 0, 1, &real); }), "i is I64"));
}

// Only who asks for a tensor of such a type gets an error.
TEST(Safetensors, TensorsOfAnyTypeMayLieInAFile) {
  TemporaryDirectory directory;
  std::string header = "{";
  int64_t at = 0;
  for (const auto& [type, bytes] :
       std::initializer_list<std::pair<const char*, int64_t>>{{"BOOL", 2},
                                                              {"U8", 2},
                                                              {"I8", 2},
                                                              {"F8_E4M3", 2},
                                                              {"F8_E5M2", 2},
                                                              {"I16", 4},
                                                              {"U16", 4},
                                                              {"I32", 8},
                                                              {"U32", 8},
                                                              {"I64", 16},
                                                              {"U64", 16},
                                                              {"F4", 1},
                                                              {"NEW_TYPE", 3}}) {
    header += fmt::format(R"("{0}":{{"dtype":"{0}","shape":[2],"data_offsets":[{1},{2}]}},)", type,
                          at, at + bytes);
    at += bytes;
  }
  header +=
      fmt::format(R"("r":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}}})", at, at + 4);
  const float seven = 7;
  const std::string path =
      directory.put("any.safetensors",
                    file_of(header, std::string(static_cast<size_t>(at), '\0') +
                                        std::string(reinterpret_cast<const char*>(&seven), 4)));
  const SafetensorsFile file(path);
  float real = 0;
  file.read_f32("r", 0, 1, &real);
  EXPECT_EQ(real, 7);
  EXPECT_TRUE(mentions(error_of([&] { file.read_f32("BOOL", 0, 1, &real); }), "BOOL is BOOL"));
  EXPECT_TRUE(mentions(error_of([&] { file.read_f32("NEW_TYPE", 0, 1, &real); }), "is NEW_TYPE"));
}

TEST(Safetensors, DoublesAreRounded) {
  TemporaryDirectory directory;
  const double values[] = {1.0 / 3, -1e300, 1e-320};
  const std::string path = directory.put(
      "d.safetensors", file_of(R"({"d":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}})",
                               std::string(reinterpret_cast<const char*>(values), 24)));
  float out[2] = {};
  SafetensorsFile(path).read_f32("d", 0, 2, out);
  EXPECT_EQ(out[0], 1.0f / 3);
  EXPECT_EQ(out[1], -std::numeric_limits<float>::infinity());
  SafetensorsFile(path).read_f32("d", 2, 1, out);
  EXPECT_EQ(out[0], 0);
}

TEST(Safetensors, AnotherFileIsCalledByItsName) {
  TemporaryDirectory directory;
  for (const auto& [content, name] : std::initializer_list<std::pair<std::string, const char*>>{
           {"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 13476839424\n",
            "a Git LFS pointer, not a safetensors file; fetch the file itself: git lfs pull"},
           {"<!DOCTYPE html><html>", "an HTML page"},
           {std::string("PK\3\4") + std::string(26, 'x') + "pytorch_model/data.pkl",
            "a PyTorch pickle (zip)"},
           {std::string(200, '\0'), "a file of zero bytes only"},
           {"", "an empty file"}}) {
    const std::string path = directory.put("x.safetensors", content);
    EXPECT_TRUE(
        mentions(error_of([&] { SafetensorsFile file(path); }), "65: " + path + ": " + name))
        << name;
  }
}

TEST(TensorDirectory, SaysWhatLiesThereInstead) {
  for (const auto& [file, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"adapter_model.safetensors", "an adapter (PEFT)"},
           {"adapter_model.bin", "an adapter (PEFT)"},
           {"pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json; fetch"},
           {"pytorch_model_fsdp.bin", "no name that is looked for"},
           {"consolidated.00.pth", "original format"},
           {"model-00001-of-00002.safetensors", "index.json; fetch"},
           {"weights.safetensors", "no name that is looked for"},
           {"README.md", "neither model.safetensors nor"}}) {
    TemporaryDirectory directory;
    directory.put(file, "x");
    const std::string error = error_of([&] { TensorDirectory(directory / ""); });
    EXPECT_TRUE(mentions(error, what)) << error;
    EXPECT_EQ(mentions(error, std::string("it holds ") + file), std::string(file) != "README.md");
  }
}

// Files of a snapshot are links, and a fetch that was broken off leaves some out.
TEST(TensorDirectory, LinksOfTheHubsCacheThatLeadNowhereAreNamed) {
  TemporaryDirectory directory;
  const std::string snapshot = directory / "models--meta--Llama-2-7b/snapshots/0123";
  std::filesystem::create_directories(snapshot);
  const auto error = [&] { return error_of([&] { TensorDirectory{snapshot}; }); };
  EXPECT_TRUE(mentions(
      error(), ".index.json; fetch all of it: hf download meta/Llama-2-7b --revision 0123"));
  std::filesystem::create_symlink("../../blobs/abc", snapshot + "/model.safetensors");
  EXPECT_TRUE(mentions(error(),
                       "; model.safetensors is a link to ../../blobs/abc, which is not there; "
                       "fetch all of it: hf download meta/Llama-2-7b --revision 0123"))
      << error();
}

struct Abuse {
  const char* header;
  size_t data_bytes;
  const char* complaint;
};

TEST(Safetensors, AbusedHeadersAreRefused) {
  const Abuse abuses[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       8, "occurs twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "overlap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})",
       20, "hole"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9, "holds 9"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, "holds 7"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,2,0],"data_offsets":[0,0]}})", 0,
       "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]}})", 8, "negative"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[-8,-8]}})", 0, "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8, "two numbers"},
      {R"({"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}})", 8, "does not fill"},
      {R"({"a":{"dtype":"BOOL","shape":[7],"data_offsets":[0,8]}})", 8, "does not fill"},
      {R"({"a":{"dtype":"F4","shape":[15],"data_offsets":[0,8]}})", 8, "does not fill"},
      {R"({"a":{"dtype":"X9","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8,
       "does not fill"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "expected an integer"},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "\"dtype\" is missing"},
      {R"({"a":7})", 0, "expected an object"},
      {R"({"__metadata__":{"format":7}})", 0, "expected a string"},
      {R"( {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8, "does not begin with"},
      {R"([1, 2, 3])", 0, "does not begin with"},
      {R"({"a":)", 0, "not valid JSON"},
      {"{\"a\xff\":1}", 0, "UTF-8"},
  };
  TemporaryDirectory directory;
  for (const Abuse& abuse : abuses) {
    const std::string path =
        directory.put("x.safetensors", file_of(abuse.header, std::string(abuse.data_bytes, '\0')));
    const std::string error = error_of([&] { SafetensorsFile file(path); });
    EXPECT_TRUE(mentions(error, abuse.complaint)) << abuse.header;
    EXPECT_TRUE(mentions(error, "65: " + path)) << abuse.header;
  }
}

TEST(Safetensors, AbsurdHeaderLengthsAreRefused) {
  TemporaryDirectory directory;
  for (const uint64_t claimed :
       {uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}, uint64_t{50}}) {
    const std::string content =
        std::string(reinterpret_cast<const char*>(&claimed), 8) + "{}" + std::string(40, ' ');
    const std::string path = directory.put("x.safetensors", content);
    EXPECT_TRUE(mentions(error_of([&] { SafetensorsFile file(path); }), "the header claims"))
        << claimed;
  }
  for (const char* content : {"1", "1234567", "12345678"}) {
    const std::string path = directory.put("x.safetensors", content);
    EXPECT_TRUE(mentions(error_of([&] { SafetensorsFile file(path); }), "no safetensors file"));
  }
}

// However a header is damaged, the file opens as something that fits the rules or not at all.
TEST(Safetensors, EveryTruncationAndHeaderFlipEndsOrderly) {
  TemporaryDirectory directory;
  const std::string path = directory / "m.safetensors";
  write_safetensors(path, {values("a", {2, 3}, {1, 2, 3, 4, 5, 6}), values("b", {1}, {7})});
  const std::string good = read_file(path, 1 << 20);
  for (size_t length = 0; length < good.size(); ++length) {
    directory.put("t.safetensors", std::string_view(good).substr(0, length));
    EXPECT_TRUE(
        mentions(error_of([&] { SafetensorsFile file(directory / "t.safetensors"); }), "65: "))
        << length;
  }
  const size_t header_end = good.size() - 7 * 4;
  int refused = 0;
  for (size_t byte = 0; byte < header_end; ++byte) {
    const size_t bit = 8 * byte + byte % 8;
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    directory.put("t.safetensors", flipped);
    const std::string error = error_of([&] {
      const SafetensorsFile file(directory / "t.safetensors");
      for (const auto& [name, tensor] : file.tensors()) {
        std::vector<float> all(static_cast<size_t>(tensor.numel()));
        if (tensor.type == "F32") file.read_f32(name, 0, tensor.numel(), all.data());
      }
    });
    refused += !error.empty();
    EXPECT_TRUE(error.empty() || error.starts_with("65: ")) << bit << " " << error;
  }
  EXPECT_GT(refused, static_cast<int>(header_end / 2));
}

TEST(TensorDirectory, ReadsShardsThroughTheIndex) {
  TemporaryDirectory directory;
  write_safetensors(directory / "one.safetensors", {values("a", {2}, {1, 2})});
  write_safetensors(directory / "two.safetensors", {values("b", {1}, {3}), values("c", {1}, {4})});
  const auto index = [&](const char* map) {
    directory.put("model.safetensors.index.json",
                  fmt::format("{{\"metadata\": {{\"total_size\": 16}}, \"weight_map\": {}}}", map));
    return error_of([&] { TensorDirectory tensors(directory.path()); });
  };
  EXPECT_EQ(index(R"({"b": "two.safetensors", "a": "one.safetensors", "c": "two.safetensors"})"),
            "");
  const TensorDirectory tensors(directory.path());
  EXPECT_EQ(tensors.names(), (std::vector<std::string>{"a", "b", "c"}));
  float value = 0;
  tensors.read_f32("c", 0, 1, &value);
  EXPECT_EQ(value, 4);
  EXPECT_EQ(tensors.find("q"), nullptr);

  EXPECT_TRUE(
      mentions(index(R"({"a": "one.safetensors", "b": "two.safetensors"})"), "does not name c"));
  EXPECT_TRUE(mentions(index(R"({"a": "two.safetensors"})"), "does not hold this tensor"));
  EXPECT_TRUE(mentions(index(R"({"a": "three.safetensors"})"), "66: "));
  EXPECT_TRUE(mentions(index(R"({"a": "../one.safetensors"})"), "same directory as the index"));
  EXPECT_TRUE(mentions(index(R"({"a": "one.safetensors", "a": "two.safetensors"})"), "twice"));
}

TEST(TensorDirectory, SaysWhatIsMissing) {
  TemporaryDirectory directory;
  const auto error = [&] { return error_of([&] { TensorDirectory tensors(directory.path()); }); };
  EXPECT_TRUE(mentions(error(), "neither model.safetensors nor"));
  directory.put("pytorch_model.bin", "x");
  EXPECT_TRUE(mentions(error(), "pytorch_model.bin: no zip file, as torch.save() writes"));
  EXPECT_TRUE(mentions(error_of([&] { TensorDirectory tensors(directory / "none"); }),
                       "no such directory"));
}

TEST(AtomicFile, OldContentStaysUntilTheNewIsComplete) {
  TemporaryDirectory directory;
  const std::string path = directory.put("f", "old");
  {
    AtomicFile file(path);
    file.write("half of the n");
  }
  EXPECT_EQ(read_file(path, 100), "old");
  AtomicFile file(path);
  file.write("new");
  EXPECT_EQ(read_file(path, 100), "old");
  file.commit();
  EXPECT_EQ(read_file(path, 100), "new");
  const auto entries = std::filesystem::directory_iterator(directory.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

// A limit on the file size simulates a full disk: both fail in the middle of writing.
TEST(AtomicFile, AFullDiskNamesThePathAndLeavesNothing) {
  TemporaryDirectory directory;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string path = directory / "m.safetensors";
  const std::string reserved = error_of(
      [&] { write_safetensors(path, {values("a", {5000}, std::vector<float>(5000, 1.0f))}); });
  const std::string written = error_of([&] {
    AtomicFile file(path);
    file.write(std::string(5000, 'x'));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(mentions(reserved, "74: " + path));
  EXPECT_TRUE(mentions(written, "74: " + path));
  EXPECT_TRUE(mentions(written, "904 bytes after 4096 written"));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  EXPECT_TRUE(mentions(error_of([&] { write_file(directory / "none/f", "x"); }), "74: "));
}

}  // namespace
}  // namespace facet
