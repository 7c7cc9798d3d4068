// The cores of this machine by the system's numbers: which of them a process may run on, and where
// they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

using Cores = std::vector<int>;  // ascending

// As the system writes them: "0-3,8".
std::string core_list(const Cores& cores);
Cores parse_core_list(std::string_view text);  // up to what is no such list

// That the main thread and those it starts may run on: they are bound to them where a launcher has
// chosen them.
Cores bound_cores();
// How many it could use if nobody had bound it: those that the machine, or the container or job
// that this process is in, has for it.
int64_t usable_cores();

// Does the machine take all of them for one core, with hardware threads?
bool is_one_core(const Cores& cores, const std::string& system = "/sys/devices/system");
// The NUMA nodes that they belong to, "0-1"; "" where the system does not say.
std::string numa_nodes_of(const Cores& cores, const std::string& system = "/sys/devices/system");

}  // namespace facet
