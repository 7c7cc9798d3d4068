// Host memory: each allocation has its own pages, huge ones where the system offers them.
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "device/memory_advice.h"
#include "device/memory_resource.h"

namespace facet {
namespace {

class HostMemory final : public MemoryResource {
 public:
  Space space() const override { return Space::kHost; }

  void* allocate(int64_t bytes, const std::string& purpose) override {
    void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, ExitCode::kConfig, "cannot reserve {:.1f} MiB for {}: {}; {}",
          static_cast<double>(bytes) / 1048576.0, purpose, std::strerror(errno), memory_advice());
    madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    return memory;
  }

  void free(void* data, int64_t bytes) override { munmap(data, static_cast<size_t>(bytes)); }

  void zero(void* data, int64_t bytes) override {
    std::memset(data, 0, static_cast<size_t>(bytes));
  }

  void forget([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) override {
#ifdef FACET_CHECKED
    std::memset(data, 0xff, static_cast<size_t>(bytes));  // NaNs
#endif
  }
};

}  // namespace

MemoryResource& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace facet
