// Shared by all code that calls HDF5: handles that close themselves, and errors with the library's
// own reason. For .cpp files only.
#pragma once

#include <hdf5.h>

#include <string>

#include "base/check.h"

namespace facet::hdf5 {

// Any HDF5 handle; closed by the function for its kind.
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

// Must be called before the first use: makes the library print nothing and do nothing at exit.
void prepare_library();

// Why the last call failed.
std::string last_reason();

// `result` is an HDF5 handle, size or status; negative is failure.
template <typename T>
T checked(T result, ExitCode code, const std::string& path, const std::string& what) {
  if (result < 0) fail(code, "{}: {} failed in HDF5: {}", path, what, last_reason());
  return result;
}

// Access properties of a file to be written: the newest format has checksums over its own
// structures.
Handle writing_access(const std::string& path);

}  // namespace facet::hdf5
