#include "train/run_start.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "base/time_text.h"
#include "train/run_record.h"

namespace facet {

namespace {

// Communication, threads, devices, libraries that compute, the job's shape.
constexpr std::array<std::string_view, 19> kPrefixes = {
    "FACET_", "NCCL_",   "UCX_",   "OMPI_MCA_",  "MPICH_",   "I_MPI_", "FI_",
    "OMP_",   "GOMP_",   "KMP_",   "DNNL_",      "ONEDNN_",  "CUDA_",  "CUBLAS_",
    "HDF5_",  "MALLOC_", "GLIBC_", "SLURM_JOB_", "SLURM_CPU"};
constexpr std::array<std::string_view, 5> kNames = {"SLURM_NTASKS", "SLURM_NTASKS_PER_NODE",
                                                    "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT",
                                                    "LD_PRELOAD"};
// What mpirun tells its own processes; one of them is a key.
constexpr std::array<std::string_view, 2> kOfLauncher = {"OMPI_MCA_orte_", "OMPI_MCA_ess"};
constexpr std::array<std::string_view, 6> kSecret = {"TOKEN", "SECRET",     "PASSW",
                                                     "KEY",   "CREDENTIAL", "AUTH"};

bool is_recorded(std::string_view name) {
  std::string capitals(name);
  std::transform(name.begin(), name.end(), capitals.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  const auto begins = [&](std::string_view prefix) { return name.starts_with(prefix); };
  const auto has = [&](std::string_view word) { return capitals.find(word) != capitals.npos; };
  const bool listed = std::any_of(kPrefixes.begin(), kPrefixes.end(), begins) ||
                      std::find(kNames.begin(), kNames.end(), name) != kNames.end();
  return listed && std::none_of(kOfLauncher.begin(), kOfLauncher.end(), begins) &&
         std::none_of(kSecret.begin(), kSecret.end(), has);
}

void write_texts(JsonWriter& writer, const OptionTexts& texts) {
  writer.begin_object();
  for (const auto& [name, value] : texts) writer.key(name).value(value);
  writer.end_object();
}

void write_hosts(JsonWriter& writer, const std::vector<RankBinding>& binding) {
  std::vector<std::string> hosts;
  for (const RankBinding& rank : binding)
    if (std::find(hosts.begin(), hosts.end(), rank.host) == hosts.end()) hosts.push_back(rank.host);
  writer.begin_array();
  for (const std::string& host : hosts) writer.value(host);
  writer.end_array();
}

void write_slurm(JsonWriter& writer, const SlurmJob& job) {
  writer.begin_object();
  writer.key("job_id").value(job.number);
  if (const size_t at = job.id.find('_'); at != job.id.npos)
    writer.key("array_task").value(job.id.substr(at + 1));
  writer.key("restart_count").value(job.restarts);
  writer.end_object();
}

void write_program(JsonWriter& writer, const ProgramVersion& program) {
  writer.begin_object();
  writer.key("version").value(program.version);
  writer.key("git").value(program.git);
  writer.key("mpi").value(program.mpi);
  writer.key("hdf5").value(program.hdf5);
  writer.key("onednn").value(program.onednn);
  writer.key("cuda").value(program.cuda);
  writer.end_object();
}

void write_binding(JsonWriter& writer, const std::vector<RankBinding>& binding) {
  writer.begin_array();
  for (size_t r = 0; r < binding.size(); ++r) {
    const RankBinding& rank = binding[r];
    writer.begin_object();
    writer.key("rank").value(static_cast<int64_t>(r));
    writer.key("host").value(rank.host);
    writer.key("cores").value(rank.cores);
    writer.key("threads").value(rank.threads);
    if (!rank.gpu.empty()) writer.key("gpu").value(rank.gpu);
    writer.key("numa").value(rank.numa);
    writer.end_object();
  }
  writer.end_array();
}

void write_changes(JsonWriter& writer, const std::vector<OptionChange>& changes) {
  writer.begin_object();
  for (const OptionChange& change : changes) {
    writer.key(change.name).begin_array();
    writer.value(change.before);
    writer.value(change.now);
    writer.end_array();
  }
  writer.end_object();
}

}  // namespace

void write_members(JsonWriter& writer, const RunStart& start) {
  writer.key("time").value(utc_text(std::chrono::system_clock::now()));
  writer.key("ranks").value(static_cast<int64_t>(start.binding.size()));
  write_hosts(writer.key("hosts"), start.binding);
  if (start.slurm.known()) write_slurm(writer.key("slurm"), start.slurm);
  write_program(writer.key("program"), start.program);
  write_binding(writer.key("binding"), start.binding);
  if (start.resumed_from) {
    writer.key("resumed_from").begin_object();
    writer.key("step").value(start.resumed_from->step);
    writer.key("checkpoint").value(start.resumed_from->checkpoint);
    writer.end_object();
  }
  if (start.options_before.empty())
    write_texts(writer.key("options"), start.options);
  else
    write_changes(writer.key("options_changed"),
                  option_changes(start.options_before, start.options));
  write_texts(writer.key("environment"), start.environment);
}

OptionTexts recorded_environment(const char* const* entries) {
  constexpr size_t kLongest = 1000;
  OptionTexts environment;
  for (; *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    const size_t equals = entry.find('=');
    if (equals == entry.npos || !is_recorded(entry.substr(0, equals))) continue;
    std::string value(entry.substr(equals + 1, kLongest));
    if (entry.size() - equals - 1 > kLongest) value += "...";
    environment[std::string(entry.substr(0, equals))] = value;
  }
  return environment;
}

}  // namespace facet
