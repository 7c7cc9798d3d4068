// The wire format of protocol buffers, as far as small messages need it: fields of varint, 64-bit,
// 32-bit and length-delimited type (protobuf.dev, "Encoding").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Appends fields in the order of the calls.
class ProtobufWriter {
 public:
  void put_varint(int number, int64_t value);  // int64, enum
  void put_double(int number, double value);
  void put_float(int number, float value);
  void put_bytes(int number, std::string_view value);  // string, message

  const std::string& bytes() const { return bytes_; }

 private:
  void tag(int number, int wire_type);
  void varint(uint64_t value);

  std::string bytes_;
};

struct ProtobufField {
  int64_t number = 0;
  uint64_t value = 0;      // of a varint; the bits of a 64-bit or 32-bit field
  std::string_view bytes;  // of a length-delimited field; a view of the message

  double as_double() const;
  float as_float() const;
};

// The fields of a message, up to its end or to the first byte that makes no sense.
std::vector<ProtobufField> protobuf_fields(std::string_view message);

// Appends the lowest `bytes` bytes of a number, the lowest first.
void put_little_endian(std::string& text, uint64_t value, int bytes);

// The unsigned number in the first `bytes` bytes, of which the lowest stands first.
uint64_t little_endian(std::string_view text, size_t bytes);

}  // namespace facet
