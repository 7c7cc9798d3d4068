#include "checkpoint/collective_write.h"

#include <algorithm>

#include "io/hash.h"
#include "io/hdf5_handle.h"
#include "io/shared_file.h"

namespace facet {

#ifdef H5_HAVE_PARALLEL

namespace {

using hdf5::checked;
using hdf5::Handle;

// Open MPI's and ROMIO's writes of 2 GiB or more fail, crash or truncate.
constexpr int64_t kPieceElements = (int64_t{256} << 20) / int64_t{sizeof(float)};

// A file opened by all ranks. After an error it stays open: closing it would wait for ranks that
// are waiting elsewhere.
class ParallelFile {
 public:
  ParallelFile(const std::string& path, Communicator& world) : path_(path) {
    const Handle access = hdf5::writing_access(path);
    checked(H5Pset_fapl_mpio(access.get(), world.handle(), MPI_INFO_NULL), ExitCode::kIo, path,
            "preparing the file");
    file_ = checked(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), ExitCode::kIo, path,
                    "opening the file on all ranks");
  }
  ParallelFile(const ParallelFile&) = delete;
  ParallelFile& operator=(const ParallelFile&) = delete;

  void write(const StoredArray& array, std::span<const RangePart> parts) const;
  void close() { checked(H5Fclose(file_), ExitCode::kIo, path_, "closing the file"); }

 private:
  void write_piece(hid_t dataset, hid_t transfer, const StoredArray& array, const RangePart& part,
                   int64_t done) const;

  std::string path_;
  hid_t file_;
};

// Every rank makes as many calls as the full array could need, however small its own part.
void ParallelFile::write(const StoredArray& array, std::span<const RangePart> parts) const {
  const auto io = ExitCode::kIo;
  ASSERT(parts.size() <= 1, "{} has {} parts on one rank", array.name, parts.size());
  const Handle dataset(
      checked(H5Dopen2(file_, array.name.c_str(), H5P_DEFAULT), io, path_, "opening " + array.name),
      H5Dclose);
  const Handle transfer(checked(H5Pcreate(H5P_DATASET_XFER), io, path_, array.name), H5Pclose);
  checked(H5Pset_dxpl_mpio(transfer.get(), H5FD_MPIO_COLLECTIVE), io, path_, array.name);
  const RangePart mine = parts.empty() ? RangePart{} : parts[0];
  for (int64_t done = 0; done < array.elements(); done += kPieceElements)
    write_piece(dataset.get(), transfer.get(), array, mine, done);
}

void ParallelFile::write_piece(hid_t dataset, hid_t transfer, const StoredArray& array,
                               const RangePart& part, int64_t done) const {
  const auto io = ExitCode::kIo;
  const auto count =
      static_cast<hsize_t>(std::clamp<int64_t>(part.count - done, 0, kPieceElements));
  const auto start = static_cast<hsize_t>(part.begin + done);
  const auto elements = static_cast<hsize_t>(array.elements());
  const Handle place(checked(H5Screate_simple(1, &elements, nullptr), io, path_, array.name),
                     H5Sclose);
  const hsize_t room = std::max<hsize_t>(count, 1);
  const Handle memory(checked(H5Screate_simple(1, &room, nullptr), io, path_, array.name),
                      H5Sclose);
  if (count > 0) {
    checked(H5Sselect_hyperslab(place.get(), H5S_SELECT_SET, &start, nullptr, &count, nullptr), io,
            path_, array.name);
  } else {
    checked(H5Sselect_none(place.get()), io, path_, array.name);
    checked(H5Sselect_none(memory.get()), io, path_, array.name);
  }
  constexpr float kNothing = 0;
  checked(H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory.get(), place.get(), transfer,
                   count > 0 ? part.memory + done : &kNothing),
          io, path_, "writing " + array.name);
}

}  // namespace

std::vector<WrittenRange> write_ranges_collectively(const std::string& path,
                                                    const std::vector<StoredArray>& arrays,
                                                    std::span<const StateRange> ranges,
                                                    const WriteMoments& at_moment,
                                                    Communicator& world) {
  const std::vector<RangePart> parts = parts_of(arrays, ranges);
  std::vector<WrittenRange> written;
  hdf5::prepare_library();
  ParallelFile file(path, world);
  auto next = parts.begin();
  for (size_t number = 0; number < arrays.size(); ++number) {
    if (number == arrays.size() / 2) at_moment("ckpt.write");
    const auto first = next;
    for (; next != parts.end() && next->array == static_cast<int64_t>(number); ++next)
      written.push_back(
          {next->array,
           {next->begin, next->count,
            hash_of(next->memory, next->count * static_cast<int64_t>(sizeof(float)))}});
    file.write(arrays[number], {first, next});
  }
  file.close();
  SharedFile::open_for_writing(path).close();  // closing an HDF5 file flushes nothing to the disk
  // A barrier: with MPI-IO a rank may write what others verify, so all must have flushed.
  world.sum(int64_t{0});
  at_moment("ckpt.written");
  verify_written(path, arrays, written);
  return written;
}

#else

std::vector<WrittenRange> write_ranges_collectively(const std::string& path,
                                                    const std::vector<StoredArray>&,
                                                    std::span<const StateRange>,
                                                    const WriteMoments&, Communicator&) {
  fail(ExitCode::kConfig,
       "{}: this build's HDF5 library has no parallel support; use --checkpoint_io posix", path);
}

#endif

}  // namespace facet
