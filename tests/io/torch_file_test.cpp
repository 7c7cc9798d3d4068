#include "io/torch_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/tensor_directory.h"
#include "temporary_directory.h"
#include "torch_writer.h"

namespace facet {
namespace {

const std::string kGolden = "tests/golden/torch/";

std::vector<float> all_of(const TensorFile& file, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(file.find(name)->numel()), std::nanf(""));
  file.read_f32(name, 0, file.find(name)->numel(), values.data());
  return values;
}

// Every tensor of fp32, fp16, bf16 and fp64 that PyTorch wrote, against what PyTorch says of it.
TEST(TorchFile, ReadsWhatPyTorchWrites) {
  const SafetensorsFile expected(kGolden + "expected.safetensors");
  int compared = 0;
  for (const char* name : {"state_dict", "views", "parameters", "protocol_4"}) {
    const TorchFile file(kGolden + name + ".bin");
    for (const auto& [key, tensor] : file.tensors()) {
      if (!tensor.is_real()) continue;
      const std::string full = std::string(name) + "/" + key;
      ASSERT_NE(expected.find(full), nullptr) << full;
      EXPECT_EQ(tensor.shape, expected.find(full)->shape) << full;
      EXPECT_EQ(all_of(file, key), all_of(expected, full)) << full;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 6 + 13 + 2 + 13);
}

TEST(TorchFile, ReadsPartsOfViews) {
  const TorchFile file(kGolden + "views.bin");
  for (const auto& [name, tensor] : file.tensors()) {
    const std::vector<float> all = all_of(file, name);
    const int64_t count = tensor.numel() / 2;
    std::vector<float> part(static_cast<size_t>(count));
    for (const int64_t begin : {int64_t{0}, tensor.numel() - count, count / 2}) {
      file.read_f32(name, begin, count, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + begin)) << name << begin;
    }
  }
  EXPECT_EQ(file.find("transposed")->begin, file.find("whole")->begin);  // one storage
  EXPECT_TRUE(file.find("row")->strides.empty());
  EXPECT_TRUE(file.find("one")->strides.empty());
}

TEST(TorchFile, IntegersAreKnownButNoParameters) {
  const TorchFile file(kGolden + "state_dict.bin");
  EXPECT_EQ(file.find("norm.num_batches_tracked")->type, "I64");
  int64_t batches = -1;
  file.read_i64("norm.num_batches_tracked", 0, 1, &batches);
  EXPECT_EQ(batches, 0);
  float value = 0;
  EXPECT_TRUE(mentions(error_of([&] { file.read_f32("norm.num_batches_tracked", 0, 1, &value); }),
                       "is I64"));
}

struct Abuse {
  std::string content;
  const char* complaint;
};

void expect_refused(const std::vector<Abuse>& abuses) {
  TemporaryDirectory directory;
  for (const Abuse& abuse : abuses) {
    const std::string path = directory.put("pytorch_model.bin", abuse.content);
    const std::string error = error_of([&] {
      const TorchFile file(path);
      for (const auto& [name, tensor] : file.tensors()) all_of(file, name);
    });
    EXPECT_TRUE(error.starts_with("65: " + path + ": ")) << abuse.complaint << ": " << error;
    EXPECT_TRUE(mentions(error, abuse.complaint)) << abuse.complaint << ": " << error;
  }
}

// A type that no weight has stands in nobody's way until a weight is read from it.
TEST(TorchFile, Float8IsKnownButNoParameter) {
  const TorchFile file(kGolden + "float8.bin");
  EXPECT_EQ(file.find("a")->type, "F8_E4M3");
  EXPECT_EQ(file.find("a")->shape, std::vector<int64_t>{2});
  float value = 0;
  EXPECT_TRUE(mentions(error_of([&] { file.read_f32("a", 0, 1, &value); }), "a is F8_E4M3"));
  using namespace pickle;
  TemporaryDirectory directory;
  const TorchFile beside(directory.put(
      "m.bin",
      torch_file(dictionary(text("w") + tensor(storage("0", 2), 0, {2}, {1}) + text("scale") +
                            untyped_tensor("1", 6, "float8_e5m2", 1, {2, 2}, {2, 1}) +
                            text("rows") + untyped_tensor("1", 6, "uint16", 1, {2}, {1})),
                 {bytes_of(1.5f) + bytes_of(-2.f), "abcdef"})));
  EXPECT_EQ(all_of(beside, "w"), (std::vector<float>{1.5f, -2.f}));
  EXPECT_EQ(beside.find("scale")->type, "F8_E5M2");
  EXPECT_EQ(beside.find("rows")->type, "U16");
  EXPECT_EQ(beside.find("rows")->begin, beside.find("scale")->begin + 1);
}

TEST(TorchFile, UntypedStoragesHaveATypeAndTheirBytes) {
  using namespace pickle;
  const auto file = [](const std::string& value) {
    return torch_file(dictionary(text("a") + value), {"abcdef"});
  };
  expect_refused(
      {{file(untyped_tensor("0", 6, "float8_e4m3fn", 0, {7}, {1})), "does not lie within"},
       {file(untyped_tensor("0", 6, "uint16", 2, {2}, {1})), "does not lie within"},
       {file(untyped_tensor("0", 5, "float8_e4m3fn", 0, {2}, {1})), "has 6 bytes, not 5 bytes of"},
       {file(untyped_tensor("0", 6, "bits16", 0, {1}, {1})), "asks for torch.bits16;"},
       {file(untyped_tensor("0", 6, "FloatStorage", 0, {1}, {1})), "a storage of no known type"},
       {file(tensor(storage("0", 6, "UntypedStorage"), 0, {6}, {1})),
        "asks for torch.UntypedStorage;"}});
}

TEST(TorchFile, ALargeTransposedMatrixIsReadWithAWindow) {
  TemporaryDirectory directory;
  std::vector<float> values(1000 * 700);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.37f;
  const TorchFile file(directory.put("m.bin", torch_file_of({{"a", {1000, 700}, values}})));
  EXPECT_EQ(file.find("a")->strides, (std::vector<int64_t>{1, 1000}));
  EXPECT_EQ(all_of(file, "a"), values);
}

TEST(TorchFile, ReadsZip64) {
  TemporaryDirectory directory;
  const std::string pickle =
      pickle::dictionary(pickle::text("a") + pickle::tensor(pickle::storage("0", 2), 0, {2}, {1}));
  const std::string data = bytes_of(1.5f) + bytes_of(-2.f);
  const TorchFile file(directory.put(
      "m.bin", zip_of({{"m/data.pkl", pickle}, {"m/data/0", data}, {"m/version", "3"}}, true)));
  EXPECT_EQ(all_of(file, "a"), (std::vector<float>{1.5f, -2.f}));
}

// PyTorch writes 0 where it was told not to compute them.
TEST(TorchFile, ACrc32OfZeroIsNone) {
  TemporaryDirectory directory;
  ZipContent data_pkl{
      "m/data.pkl",
      pickle::dictionary(pickle::text("a") + pickle::tensor(pickle::storage("0", 1), 0, {1}, {1}))};
  ZipContent data{"m/data/0", bytes_of(1.5f)};
  for (ZipContent* entry : {&data_pkl, &data})
    entry->crc_change = static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const unsigned char*>(entry->content.data()),
              static_cast<uInt>(entry->content.size())));
  const TorchFile file(directory.put("m.bin", zip_of({data_pkl, data})));
  EXPECT_EQ(all_of(file, "a"), (std::vector<float>{1.5f}));
}

TEST(TorchFile, WhatPyTorchWritesThatIsNoDictionaryOfTensorsIsRefusedByName) {
  for (const auto& [file, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"before_1_6.bin", "PyTorch before 1.6"},
           {"script.bin", "TorchScript"},
           {"module.bin", "asks for torch.nn.modules.linear.Linear;"},
           {"nested.bin", "state_dict is a dictionary, not a tensor"},
           {"tensor_only.bin", "holds an object, not a dictionary"}}) {
    const std::string path = kGolden + file;
    const std::string error = error_of([&] { TorchFile torch(path); });
    EXPECT_TRUE(mentions(error, what)) << file << ": " << error;
    EXPECT_TRUE(error.starts_with("65: " + path + ": ")) << error;
  }
}

// What would run in Python does nothing here but be named.
TEST(Pickle, NothingForeignIsCalled) {
  using namespace pickle;
  const auto file = [](const std::string& pickle) { return torch_file(pickle, {}); };
  const std::string command = tuple({text("touch /tmp/owned")});
  expect_refused({
      {file(program(call(global("os", "system"), command))), "asks for os.system;"},
      {file(program(call(global("builtins", "eval"), command))), "asks for builtins.eval;"},
      {file(dictionary(text("a") + call(global("posix", "system"), command))), "posix.system"},
      {file("\x80\x04" + text("builtins") + text("exec") + "\x93."), "asks for builtins.exec;"},
      {file(program(global("torch", "load") + command + "R")), "asks for torch.load;"},
      {file(program(global("torch.hub", "FloatStorage"))), "asks for torch.hub.FloatStorage;"},
      {file(program("(i__main__\nX\n")), "asks for __main__.X;"},  // INST
      {file(program("(icollections\nOrderedDict\n")), "opcode 0x69"},
      {file("cposix\nsystem\n(S'id'\ntR."), "asks for posix.system;"},  // protocol 0
      {file("(dp0\nVa\np1\nI01\nsg0\n(lp2\nL7L\na(S'id'\nios\nsystem\n."), "asks for os.system;"},
      {file(program("(" + text("x") + "o")), "opcode 0x6f"},                      // OBJ
      {file(program(global("torch", "FloatStorage") + ")\x81")), "opcode 0x81"},  // NEWOBJ
      {file(program("\x82\1")), "opcode 0x82"},                                   // EXT1
      {file(program("Pid\n")), "opcode 0x50"},                                    // PERSID
      {file(program(call(text("torch.load"), ")"))), "truncated or damaged"},
      {file(program(global("torch", "FloatStorage") + "}b")), "truncated or damaged"},
      {file(program(call(global("collections", "OrderedDict"), tuple({"]"})))), "OrderedDict of"},
  });
}

TEST(Pickle, AbusedPicklesAreRefused) {
  using namespace pickle;
  const auto file = [](const std::string& pickle) { return torch_file(pickle, {}); };
  expect_refused({
      {file(""), "truncated or damaged"},
      {file("Ix\n."), "truncated or damaged"},
      {file("(Va\nd."), "truncated or damaged"},
      {file("\x80\x06}."), "protocol 6;"},
      {file("\x80\x02}"), "truncated or damaged"},
      {file(program("")), "truncated or damaged"},
      {file(program("(")), "truncated or damaged"},
      {file(program("u")), "truncated or damaged"},
      {file(program("}(" + text("a") + "u")), "truncated or damaged"},
      {file(program("h\7")), "truncated or damaged"},
      {file(program("q\1")), "truncated or damaged"},
      {file(program("X\xff\xff\xff\xff")), "truncated or damaged"},
      {file(program("\x8d" + bytes_of(~uint64_t{0}))), "truncated or damaged"},
      {file(program("\x8a\x09" + std::string(9, '\1'))), "an integer of 9 bytes"},
      {file(program("c" + std::string(400, 'x') + "\nx\n")), "truncated or damaged"},
      {file(program("]q\1h\1a")), "holds a list, not a dictionary"},  // a list in itself
      {file(program("}q\1(" + text("a") + "h\1u")), "a is a dictionary, not a tensor"},
      {file(dictionary("K\1K\2")), "an integer is a key"},
      {file(dictionary(text("a") + text("b"))), "a is a string, not a tensor"},
  });
}

TEST(TorchFile, AbusedTensorsAreRefused) {
  using namespace pickle;
  const std::string eight(8, '\0');
  const auto with = [&](const std::string& value) {
    return torch_file(dictionary(text("a") + value), {eight});
  };
  const auto view = [&](int64_t offset, const std::vector<int64_t>& shape,
                        const std::vector<int64_t>& strides) {
    return with(tensor(storage("0", 2), offset, shape, strides));
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  const std::string negated =
      call(global("torch._utils", "_rebuild_tensor_v2"),
           tuple({storage("0", 2), integer(0), sizes({2}), sizes({1}), "\x89",
                  call(global("collections", "OrderedDict"), ")"), "}" + text("neg") + "\x88s"}));
  expect_refused({
      {view(1, {2}, {1}), "does not lie within"},
      {view(-1, {2}, {1}), "does not lie within"},
      {view(0, {2}, {2}), "does not lie within"},
      {view(0, {kHuge, 4}, {0, 0}), "does not lie within"},
      {view(0, {3}, {kHuge}), "does not lie within"},
      {view(kHuge, {kHuge}, {2}), "does not lie within"},
      {view(0, {-2}, {1}), "no size"},
      {with(negated), "a is a view that negates or conjugates its values"},
      {view(0, {2}, {-1}), "no size"},
      {view(0, {2}, {1, 1}), "differ in length"},
      {view(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)), "no tuple of up to 64"},
      {with(tensor(storage("0", 3), 0, {2}, {1})), "has 8 bytes, not 3 elements of F32"},
      {with(tensor(storage("0", kHuge), 0, {2}, {1})), "has 8 bytes"},
      {with(tensor(storage("0", -1), 0, {2}, {1})), "has 8 bytes"},
      {with(tensor(storage("1", 2), 0, {2}, {1})), "there is no archive/data/1"},
      {with(tensor(storage("../data.pkl", 2), 0, {2}, {1})), "there is no archive/data/../"},
      {with(tensor(text("x"), 0, {2}, {1})), "without a storage"},
      {with(tensor(tuple({text("storage")}) + "Q", 0, {2}, {1})), "unknown form"},
      {with(storage("0", 2)), "a is a storage, not a tensor"},
      {torch_file(dictionary(text("a") + tensor(storage("0", 2), 0, {2}, {1}) + text("a") +
                             tensor(storage("0", 2), 0, {2}, {1})),
                  {eight}),
       "a occurs twice"},
  });
}

TEST(TorchFile, AbusedZipFilesAreRefused) {
  const std::string pickle =
      pickle::dictionary(pickle::text("a") + pickle::tensor(pickle::storage("0", 2), 0, {2}, {1}));
  const ZipContent data_pkl{"m/data.pkl", pickle}, data{"m/data/0", std::string(8, '\1')};
  ZipContent packed = data, secret = data, wrong = data, wrong_pickle = data_pkl;
  packed.method = 8;
  secret.flags = 1;
  wrong.crc_change = wrong_pickle.crc_change = 1;
  const std::string good = zip_of({data_pkl, data});
  std::string overlapping = good;
  const size_t second = good.rfind("PK\1\2");
  overlapping.replace(second + 42, 4, std::string(4, '\0'));  // both at the first one's place
  expect_refused({
      {zip_of({data_pkl, packed}), "m/data/0 is compressed"},
      {zip_of({data_pkl, secret}), "m/data/0 is encrypted"},
      {zip_of({data_pkl, wrong}), "m/data/0 does not have the CRC-32"},
      {zip_of({wrong_pickle, data}), "m/data.pkl does not have the CRC-32"},
      {zip_of({data_pkl, data, data}), "m/data/0 occurs twice"},
      {zip_of({data}), "without a data.pkl"},
      {zip_of({{"data.pkl", pickle}, data}), "without a data.pkl"},
      {zip_of({data_pkl, data, {"m/byteorder", "big"}}), "other byte order"},
      {zip_of({data_pkl, data, {"m/constants.pkl", ""}}), "TorchScript"},
      {overlapping, "overlap at byte 0"},
      {good.substr(0, good.size() - 1), "no directory at its end"},
      {good.substr(0, 40), "no directory at its end"},
      {"weights", "no zip file"},
      {"", "an empty file"},
      {std::string(257, '\0') + "ustar" + std::string(300, '\0'), "a tar archive, as PyTorch"},
  });
}

// However a file is damaged, it opens as something that fits the rules or not at all.
TEST(TorchFile, EveryTruncationAndFlipEndsOrderly) {
  TemporaryDirectory directory;
  const std::string good = read_file(kGolden + "parameters.bin", 1 << 20);
  const auto error = [&](std::string_view content) {
    directory.put("t.bin", content);
    return error_of([&] {
      const TorchFile file(directory / "t.bin");
      for (const auto& [name, tensor] : file.tensors()) all_of(file, name);
    });
  };
  EXPECT_EQ(error(good), "");
  for (size_t length = 0; length < good.size(); length += 3)
    EXPECT_TRUE(error(std::string_view(good).substr(0, length)).starts_with("65: ")) << length;
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string flipped = good;
    flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << byte % 8));
    const std::string told = error(flipped);
    EXPECT_TRUE(told.empty() || told.starts_with("65: ")) << byte << " " << told;
  }
}

TEST(TensorDirectory, ReadsShardsOfPyTorch) {
  const SafetensorsFile expected(kGolden + "expected.safetensors");
  const TensorDirectory shards(kGolden + "shards");
  EXPECT_EQ(shards.names(), (std::vector<std::string>{"a", "b", "c"}));
  for (const std::string& name : shards.names()) {
    std::vector<float> values(static_cast<size_t>(shards.find(name)->numel()));
    shards.read_f32(name, 0, shards.find(name)->numel(), values.data());
    EXPECT_EQ(values, all_of(expected, "shards/" + name));
  }
}

TEST(TensorDirectory, SafetensorsWinOverPyTorchsFiles) {
  TemporaryDirectory directory;
  const auto read = [&] {
    const TensorDirectory tensors(directory.path());
    float value = 0;
    tensors.read_f32("a", 0, 1, &value);
    return fmt::format("{} {} {}", value, tensors.source().substr(directory.path().size()),
                       tensors.not_read().empty() ? "-" : "and another");
  };
  const std::string index = R"({"weight_map": {"a": "NAME"}})";
  const auto index_of = [&](std::string name) { return std::string(index).replace(22, 4, name); };
  directory.put("shard", torch_file_of({{"a", {1}, {4}}}));
  directory.put("pytorch_model.bin.index.json", index_of("shard"));
  EXPECT_EQ(read(), "4 /pytorch_model.bin.index.json -");
  directory.put("pytorch_model.bin", torch_file_of({{"a", {1}, {3}}}));
  EXPECT_EQ(read(), "3 /pytorch_model.bin and another");
  const auto write = [&](const char* name, float value) {
    write_safetensors(directory / name,
                      {{"a", {1}, [=](int64_t, int64_t, float* out) { *out = value; }}});
  };
  write("part.safetensors", 2);
  directory.put("model.safetensors.index.json", index_of("part.safetensors"));
  EXPECT_EQ(read(), "2 /model.safetensors.index.json and another");
  write("model.safetensors", 1);
  EXPECT_EQ(read(), "1 /model.safetensors and another");
}

TEST(TensorDirectory, AllShardsThatAreNotThereAreNamedAtOnce) {
  TemporaryDirectory directory;
  directory.put("part-2", torch_file_of({{"b", {1}, {4}}}));
  directory.put("pytorch_model.bin.index.json",
                R"({"weight_map": {"a": "part-1", "b": "part-2", "c": "part-3", "d": "part-1"}})");
  EXPECT_NE(error_of([&] {
              TensorDirectory{directory.path()};
            }).find("index.json: of its 3 files these are not there: part-1, part-3"),
            std::string::npos);
}

TEST(TensorDirectory, AFileIsOpenedByWhatItHolds) {
  TemporaryDirectory directory;
  directory.put("x.safetensors", torch_file_of({{"a", {1}, {3}}}));
  EXPECT_NE(TensorDirectory::of_file(directory / "x.safetensors").find("a"), nullptr);
  write_safetensors(directory / "x.bin", {});
  EXPECT_TRUE(TensorDirectory::of_file(directory / "x.bin").names().empty());
}

}  // namespace
}  // namespace facet
