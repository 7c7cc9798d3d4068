#!/usr/bin/env python3
"""Counts the 16-byte accesses to global memory of the memory-bound kernels in 16 bits, from their machine code.

usage: access_counts.py NVDISASM BOUNDS CUBIN...

BOUNDS holds a line a kernel: name | loads of 16 bytes at least | stores of 16 bytes at least. Loads are LDG.E.128, LD.E.128
where the address itself comes from memory, and LDGSTS.E.BYPASS.128, which copies to shared memory. Fails if a kernel has
fewer, if one of the cubins' kernels on 16-bit elements stands not in BOUNDS, or if it divides in 64 bits, which takes about as
long as moving 16 bytes. Kernels on fp32 share their source: only those that exist on fp32 alone are in BOUNDS. Not listed are
attention's products on tensor cores (mma::) and plain products.
"""
import re
import subprocess
import sys

from loop_counts import functions_of

LOAD, STORE = r"(?:LDG?\.E\.128|LDGSTS\.E\S*\.128)", r"STG\.E\.128"
DIVISION = re.compile(r"CALL.*__cuda_sm\w*_(div|rem)_[su]64")


def names_of(mangled):
    """Readable names, as scripts/kernel_report.sh prints them: fill_kernel<bf16>."""
    text = subprocess.run(["c++filt"], input="\n".join(mangled), check=True, capture_output=True, text=True).stdout
    names = []
    for line in text.splitlines():
        line = re.sub(r"\(facet::[\w:]+\)(?=\d)", "", line.replace("(anonymous namespace)::", ""))  # an enumerator's type
        line = line.split("(")[0].removeprefix("void ")
        line = re.sub(r"facet::(cuda::|gpu::)?", "", line)
        names.append(line.replace("__nv_bfloat16", "bf16").replace("__half", "f16"))
    return dict(zip(mangled, names))


def bounds_of(path):
    with open(path, encoding="utf-8") as lines:
        rows = [line.split("|") for line in lines if line.strip() and not line.startswith("#")]
    return {name.strip(): (int(loads), int(stores)) for name, loads, stores in rows}


def main():
    nvdisasm, bounds_path, *cubins = sys.argv[1:]
    bounds, seen, wrong = bounds_of(bounds_path), set(), []
    print(f"{'kernel':<44} {'loads':>8} {'stores':>8}")
    for cubin in cubins:
        functions = functions_of(nvdisasm, cubin)
        for mangled, name in names_of(sorted(functions)).items():
            on_16_bits = "bf16" in name or "unsigned short" in name
            if (not on_16_bits and name not in bounds) or re.match(r"mma::|plain", name):
                continue
            seen.add(name)
            everything = (0, len(functions[mangled].instructions) - 1)
            loads, stores = (functions[mangled].count(everything, operation) for operation in (LOAD, STORE))
            print(f"{name:<44} {loads:>8} {stores:>8}")
            if name not in bounds:
                wrong.append(f"{name} stands not in {bounds_path}")
            elif loads < bounds[name][0] or stores < bounds[name][1]:
                wrong.append(f"{name} has fewer accesses of 16 bytes than {bounds_path} demands")
            if any(DIVISION.search(text) for text in functions[mangled].instructions):
                wrong.append(f"{name} divides in 64 bits")
    wrong += [f"{name} of {bounds_path} is in none of the files" for name in sorted(bounds.keys() - seen)]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
