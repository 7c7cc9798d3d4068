// What every user of the HDF5 library shares: handles that close themselves, and errors with the
// library's own reason. For .cpp files only.
#pragma once

#include <hdf5.h>

#include <string>

#include "base/check.h"

namespace facet::hdf5 {

// Any HDF5 handle; closed by the function that fits its kind.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  hid_t get() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// To be called before the first use: the library prints nothing, and does nothing at the exit.
void prepare_library();

// Why the last call failed.
std::string last_reason();

// `result` is an HDF5 handle, size or status; negative is failure.
template <typename T>
T checked(T result, ExitCode code, const std::string& path, const std::string& what) {
  if (result < 0) fail(code, "{}: {} failed in HDF5: {}", path, what, last_reason());
  return result;
}

// The properties of a file that is written: the newest format carries checksums over its own
// structures.
Handle writing_access(const std::string& path);

}  // namespace facet::hdf5
