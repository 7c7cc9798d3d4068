// CRC-32C (Castagnoli; RFC 3720, appendix B.4): reflected polynomial 0x82f63b78.
#pragma once

#include <cstdint>
#include <string_view>

namespace facet {

// 0xe3069283 for "123456789".
uint32_t crc32c(std::string_view bytes);

}  // namespace facet
