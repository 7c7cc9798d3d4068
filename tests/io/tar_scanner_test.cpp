#include "io/tar_scanner.h"

#include <gtest/gtest.h>

#include <vector>

#include "tar_text.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

class Tar : public testing::Test {
 protected:
  // "name:content" of every member.
  std::vector<std::string> members(const std::string& archive) {
    std::vector<std::string> found;
    const InputFile file(directory_.put("a.tar", archive));
    TarScanner scanner(file);
    while (const auto member = scanner.next())
      found.push_back(
          member->name + ":" +
          archive.substr(static_cast<size_t>(member->offset), static_cast<size_t>(member->bytes)));
    return found;
  }
  std::string error(const std::string& archive) {
    return error_of([&] { members(archive); });
  }

  TemporaryDirectory directory_;
};

using Texts = std::vector<std::string>;

TEST_F(Tar, RegularMembersAreFoundAndOthersAreNot) {
  EXPECT_EQ(members(tar_member("a/b.jpg", "image") + tar_header("dir/", 0, '5') +
                    tar_header("link", 77, '2') + tar_member("c", std::string(513, 'x')) +
                    tar_member("old", "v7", '\0') + tar_member("empty", "") + tar_end()),
            (Texts{"a/b.jpg:image", "c:" + std::string(513, 'x'), "old:v7", "empty:"}));
  EXPECT_EQ(members(tar_end()), Texts{});
}

TEST_F(Tar, LongNamesOfAllKindsAreRead) {
  const std::string name(300, 'n');
  EXPECT_EQ(members(tar_member("././@LongLink", name + '\0', 'L') + tar_member("cut", "gnu") +
                    tar_member("././@LongLink", name + '\0', 'K') + tar_member("link", "k") +
                    tar_member("pax", pax_record("path", name), 'x') + tar_member("cut", "pax") +
                    tar_member("global", pax_record("comment", "c"), 'g') +
                    tar_header("base", 0, '0', "some/directory") + tar_end()),
            (Texts{name + ":gnu", "link:k", name + ":pax", "some/directory/base:"}));
}

TEST_F(Tar, SizesAreOctalBinaryOrOfPax) {
  std::string binary = tar_header("big", 0);
  binary.replace(124, 12, std::string("\x80\0\0\0\0\0\0\0\0\0\0\3", 12));
  EXPECT_EQ(members(with_checksum(binary) + padded("abc") +
                    tar_member("pax", pax_record("size", "4"), 'x') + tar_header("p", 0) +
                    padded("abcd") + tar_end()),
            (Texts{"big:abc", "p:abcd"}));
}

TEST_F(Tar, WhatIsDamagedIsNamedWithItsPlace) {
  const std::string good = tar_member("a.jpg", "image");
  std::string bad_sum = tar_member("b", "x");
  bad_sum[3] = 'y';
  EXPECT_TRUE(mentions(error(good + bad_sum + tar_end()),
                       "byte 1024, after the member a.jpg: the checksum"));
  EXPECT_TRUE(mentions(error(good), "is it cut off?"));
  EXPECT_TRUE(mentions(error(""), "is it cut off?"));
  EXPECT_TRUE(mentions(error(tar_header("b", 10000) + tar_end()),
                       "10000 bytes, of which the file holds 1024"));
  EXPECT_TRUE(mentions(error(tar_header("x", 5000, 'x')), "ends inside a name"));
  EXPECT_TRUE(mentions(error(tar_header("x", 1 << 30, 'L')), "more than 1048576 bytes"));
  EXPECT_TRUE(mentions(error(tar_header("s", 0, 'S') + tar_end()), "sparse"));
  std::string size = tar_header("b", 0);
  size.replace(124, 3, "9z9");
  EXPECT_TRUE(mentions(error(with_checksum(size) + tar_end()), "no number"));
  size.replace(124, 12, 12, '\xff');
  EXPECT_TRUE(mentions(error(with_checksum(size) + tar_end()), "no number"));
  size.replace(124, 12, std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12));
  EXPECT_TRUE(mentions(error(with_checksum(size) + tar_end()), "is it cut off?"));
  for (const char* fields : {"5 a=b", "99 path=x\n", "3 a", "0 a=b\n", "8 path\nx", "8 ab=c\n"})
    EXPECT_TRUE(mentions(error(tar_member("p", fields, 'x') + tar_end()), "pax")) << fields;
  EXPECT_TRUE(
      mentions(error(tar_member("p", pax_record("size", "-4"), 'x') + tar_end()), "no number"));
  EXPECT_TRUE(mentions(error("\x1f\x8b" + std::string(1000, 'z')), "gzip"));
}

}  // namespace
}  // namespace facet
