// Page-locked host memory, from and to which a GPU copies while the host goes on.
#pragma once

#include <cstdint>
#include <string_view>

namespace facet {

// cudaFreeHost() frees it. Throws Error(kConfig) where the system locks no more pages: the message
// says for what purpose, and `advice` follows what helps always.
void* page_lock(int64_t bytes, std::string_view purpose, std::string_view advice = "");

}  // namespace facet
