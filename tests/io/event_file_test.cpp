// Event files: bytes as other readers want them, and what is left of damaged ones.
#include "io/event_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "io/crc32c.h"
#include "io/file.h"
#include "io/protobuf.h"
#include "temporary_directory.h"

namespace facet {
namespace {

// RFC 3720, appendix B.4, and the usual check value.
TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

// Fields of all types, numbers and lengths of more than one byte.
TEST(Protobuf, TheBytesOfTheWireFormat) {
  ProtobufWriter message;
  message.put_varint(1, 150);
  message.put_bytes(2, "testing");
  message.put_double(3, 1.0);
  message.put_float(20, -2.0F);
  message.put_varint(4, -1);
  EXPECT_EQ(message.bytes(),
            std::string("\x08\x96\x01\x12\x07testing\x19\0\0\0\0\0\0\xf0\x3f\xa5\x01\0\0\0\xc0\x20"
                        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                        38));
  const std::vector<ProtobufField> fields = protobuf_fields(message.bytes());
  ASSERT_EQ(fields.size(), 5u);
  EXPECT_EQ(fields[0].value, 150u);
  EXPECT_EQ(fields[1].bytes, "testing");
  EXPECT_EQ(fields[2].as_double(), 1.0);
  EXPECT_EQ(fields[3].as_float(), -2.0F);
  EXPECT_EQ(static_cast<int64_t>(fields[4].value), -1);
}

TEST(Protobuf, AMessageThatIsCutOffGivesItsWholeFields) {
  ProtobufWriter message;
  message.put_bytes(1, "ab");
  message.put_double(2, 3.5);
  for (size_t size = 0; size < message.bytes().size(); ++size)
    EXPECT_EQ(protobuf_fields(message.bytes().substr(0, size)).size(), size < 4 ? 0u : 1u) << size;
  EXPECT_TRUE(protobuf_fields("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").empty());
}

std::string written_by(const std::string& directory) {
  EventFile file(directory, "c1");
  file.session_start(20);
  const std::vector<Scalar> scalars = {{"Train/Samples/train_loss", 1.5F},
                                       {"Train/Samples/lr", 1e-3F}};
  file.write(24, scalars);
  file.sync();
  return event_files(directory).back();
}

TEST(EventFile, ComesBackAsWritten) {
  const TemporaryDirectory directory;
  const std::vector<Event> events = read_events(written_by(directory / "a/b"));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.7e9);
  EXPECT_TRUE(events[1].session_start);
  EXPECT_EQ(events[1].step, 20);
  EXPECT_EQ(events[2].step, 24);
  ASSERT_EQ(events[2].scalars.size(), 2u);
  EXPECT_EQ(events[2].scalars[0].tag, "Train/Samples/train_loss");
  EXPECT_EQ(events[2].scalars[0].value, 1.5F);
  EXPECT_EQ(events[2].scalars[1].value, 1e-3F);
}

// As TensorFlow's SummaryWriter and the text plugin have it.
TEST(EventFile, TextsAreTensorsOfOneString) {
  const TemporaryDirectory directory;
  const std::vector<Text> texts = {{"Samples/one/0", "What?\n\na circle"}};
  {
    EventFile file(directory.path(), "c1");
    file.write(7, texts);
  }
  const std::string path = event_files(directory.path()).back();
  const std::vector<Event> events = read_events(path);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].step, 7);
  EXPECT_TRUE(events[1].scalars.empty());
  ASSERT_EQ(events[1].texts.size(), 1u);
  EXPECT_EQ(events[1].texts[0].tag, "Samples/one/0");
  EXPECT_EQ(events[1].texts[0].text, "What?\n\na circle");
  // tensor {dtype 7, shape {dim {size 1}}, string_val}, metadata {plugin_data {"text"}}
  const std::string expected =
      std::string("\x42\x19\x08\x07\x12\x04\x12\x02\x08\x01\x42\x0fWhat?\n\na circle") +
      "\x4a\x08\x0a\x06\x0a\x04text";
  EXPECT_NE(read_file(path, 1 << 20).find(expected), std::string::npos);
}

// Readers take the files of a directory by name, whatever the clocks of the hosts say.
TEST(EventFile, ANewFileIsReadAfterTheOlderOnes) {
  const TemporaryDirectory directory;
  directory.put("events.out.tfevents.9999999998.z.1.0", "");
  directory.put("notes.txt", "");
  const std::string path = written_by(directory.path());
  EXPECT_EQ(path, event_files(directory.path()).back());
  EXPECT_TRUE(mentions(path, "events.out.tfevents.9999999999.c1."));
  EXPECT_TRUE(event_files(directory / "none").empty());
}

TEST(EventFile, DamageEndsTheEvents) {
  const TemporaryDirectory directory;
  const std::string whole = read_file(written_by(directory.path()), 1 << 20);
  const auto events_in = [&](const std::string& bytes) {
    return read_events(directory.put("damaged", bytes)).size();
  };
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 4);
    EXPECT_LT(events_in(damaged), 3u) << byte;
    EXPECT_LT(events_in(whole.substr(0, byte)), 3u) << byte;
  }
  EXPECT_EQ(events_in(whole.substr(0, whole.size() - 1)), 2u);
  EXPECT_EQ(events_in(whole + "\x01"), 3u);
}

TEST(EventFile, WhatCanNotBeWrittenIsAnError) {
  const TemporaryDirectory directory;
  directory.put("a_file", "");
  EXPECT_TRUE(mentions(error_of([&] { EventFile(directory / "a_file", "c1"); }), "74: "));
}

}  // namespace
}  // namespace facet
