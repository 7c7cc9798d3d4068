#include "io/base64.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace facet {
namespace {

std::string refusal(const std::string& text) {
  try {
    decode_base64(text, "FILE: image 7");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    return error.what();
  }
  ADD_FAILURE() << text << " is read";
  return "";
}

// The examples of RFC 4648, section 10.
TEST(Base64, KnownTexts) {
  const std::pair<const char*, const char*> examples[] = {{"", ""},
                                                          {"f", "Zg=="},
                                                          {"fo", "Zm8="},
                                                          {"foo", "Zm9v"},
                                                          {"foob", "Zm9vYg=="},
                                                          {"fooba", "Zm9vYmE="},
                                                          {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : examples) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text, ""), bytes);
  }
  std::string all;
  for (int i = 0; i < 256 * 3; ++i) all += static_cast<char>(i * 7);
  for (const size_t length : {765u, 766u, 767u, 768u})
    EXPECT_EQ(decode_base64(encode_base64(all.substr(0, length)), ""), all.substr(0, length));
}

TEST(Base64, AnythingElseIsRefusedWithNameAndPlace) {
  for (const char* text : {"Zg=", "Zg", "Z", "Zm9vY", "Zm9vYg="})
    EXPECT_NE(refusal(text).find("FILE: image 7: not base64"), std::string::npos) << refusal(text);
  EXPECT_NE(refusal("Zm9v\nYg==").find("character 4 is '<0A>'"), std::string::npos);
  EXPECT_NE(refusal("Zm 9vYg=").find("character 2 is ' '"), std::string::npos);
  EXPECT_NE(refusal("Zm9-").find("for URLs"), std::string::npos);
  EXPECT_NE(refusal("data:image/jpeg;base64,Zg==").find("character 4 is ':'"), std::string::npos);
  for (const char* text : {"=", "====", "Zg==Zg==", "Z===", "Z=g=", "Zm9v===="})
    EXPECT_NE(refusal(text).find("not base64"), std::string::npos);
}

}  // namespace
}  // namespace facet
