#include "io/protobuf.h"

#include <bit>
#include <optional>

namespace facet {

namespace {

enum WireType { kVarint = 0, k64Bit = 1, kDelimited = 2, k32Bit = 5 };

// Takes bytes from the front of a message. nullopt where it ends too soon.
class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}
  bool at_end() const { return rest_.empty(); }

  std::optional<std::string_view> take(uint64_t bytes) {
    if (bytes > rest_.size()) return std::nullopt;
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = take(1);
      if (!byte) return std::nullopt;
      const auto bits = static_cast<uint8_t>((*byte)[0]);
      value |= uint64_t{bits & 0x7fU} << shift;
      if ((bits & 0x80U) == 0) return value;
    }
    return std::nullopt;
  }

  std::optional<uint64_t> fixed(size_t bytes) {
    const auto taken = take(bytes);
    if (!taken) return std::nullopt;
    return little_endian(*taken, bytes);
  }

  std::optional<ProtobufField> field() {
    const auto tag = varint();
    if (!tag) return std::nullopt;
    ProtobufField field;
    field.number = static_cast<int64_t>(*tag >> 3);
    const uint64_t wire_type = *tag & 7;
    if (wire_type == kDelimited) {
      const auto length = varint();
      const auto bytes = length ? take(*length) : std::nullopt;
      if (!bytes) return std::nullopt;
      field.bytes = *bytes;
      return field;
    }
    const auto value = wire_type == kVarint  ? varint()
                       : wire_type == k64Bit ? fixed(8)
                       : wire_type == k32Bit ? fixed(4)
                                             : std::nullopt;
    if (!value) return std::nullopt;
    field.value = *value;
    return field;
  }

 private:
  std::string_view rest_;
};

}  // namespace

uint64_t little_endian(std::string_view text, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t{static_cast<uint8_t>(text[i])} << (8 * i);
  return value;
}

void put_little_endian(std::string& text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
}

void ProtobufWriter::tag(int number, int wire_type) {
  varint(static_cast<uint64_t>(number << 3 | wire_type));
}

void ProtobufWriter::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
  bytes_.push_back(static_cast<char>(value));
}

void ProtobufWriter::put_varint(int number, int64_t value) {
  tag(number, kVarint);
  varint(static_cast<uint64_t>(value));
}

void ProtobufWriter::put_double(int number, double value) {
  tag(number, k64Bit);
  put_little_endian(bytes_, std::bit_cast<uint64_t>(value), 8);
}

void ProtobufWriter::put_float(int number, float value) {
  tag(number, k32Bit);
  put_little_endian(bytes_, std::bit_cast<uint32_t>(value), 4);
}

void ProtobufWriter::put_bytes(int number, std::string_view value) {
  tag(number, kDelimited);
  varint(value.size());
  bytes_.append(value);
}

double ProtobufField::as_double() const { return std::bit_cast<double>(value); }
float ProtobufField::as_float() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }

std::vector<ProtobufField> protobuf_fields(std::string_view message) {
  std::vector<ProtobufField> fields;
  for (Reader reader(message); !reader.at_end();) {
    const std::optional<ProtobufField> field = reader.field();
    if (!field) break;
    fields.push_back(*field);
  }
  return fields;
}

}  // namespace facet
