#include "emulated/device/memory.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/gpu_emulated.h"

namespace facet::emulated {

void launch(cudaStream_t stream, const gpu::LaunchShape& shape, std::function<void()> thread_body,
            std::vector<const void*> pointers) {
  const Site where = shape.where;
  const GridShape grid{shape.grid, shape.block, shape.shared_bytes, shape.cluster};
  enqueue(stream, "launched", where,
          [=, body = std::move(thread_body), pointers = std::move(pointers)] {
            for (size_t i = 0; i < pointers.size(); ++i)
              if (pointers[i])
                check_device_range(pointers[i], 0, fmt::format("argument {}", i + 1).c_str(),
                                   where);
            Executor::instance().run(grid, body, where);
          });
}

}  // namespace facet::emulated
