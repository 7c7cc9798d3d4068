#include "io/hdf5_handle.h"

namespace facet::hdf5 {

namespace {

herr_t keep_innermost(unsigned depth, const H5E_error2_t* error, void* text) {
  if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
  return 0;
}

}  // namespace

void prepare_library() {
  static const bool done = [] {
    // The library's exit handler may hang or crash after a failed write.
    H5dont_atexit();
    H5PLset_loading_state(0);  // a file must not choose which code runs
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return true;
  }();
  (void)done;
}

std::string last_reason() {
  std::string reason = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &reason);
  H5Eclear2(H5E_DEFAULT);
  return reason;
}

Handle writing_access(const std::string& path) {
  const hid_t access =
      checked(H5Pcreate(H5P_FILE_ACCESS), ExitCode::kIo, path, "preparing the file");
  checked(H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST), ExitCode::kIo, path,
          "preparing the file");
  return {access, H5Pclose};
}

}  // namespace facet::hdf5
