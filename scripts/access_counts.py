#!/usr/bin/env python3
"""Counts the 16-byte accesses to global memory of the memory-bound kernels in 16 bits, from their machine code.

usage: access_counts.py NVDISASM BOUNDS CUBIN...

BOUNDS holds a line a kernel: name | LDG.E.128 at least | STG.E.128 at least. Fails if a kernel has fewer, if one of the
cubins' kernels on 16-bit elements stands not in BOUNDS, or if it divides in 64 bits, which takes about as long as moving 16
bytes. Kernels on fp32 share their source and are not listed, nor are products: those on tensor cores (mma::) and plain ones.
"""
import re
import subprocess
import sys

from loop_counts import functions_of

DIVISION = re.compile(r"CALL.*__cuda_sm\w*_(div|rem)_[su]64")


def names_of(mangled):
    """Readable names, as scripts/kernel_report.sh prints them: fill_kernel<bf16>."""
    text = subprocess.run(["c++filt"], input="\n".join(mangled), check=True, capture_output=True, text=True).stdout
    names = []
    for line in text.splitlines():
        line = line.replace("(anonymous namespace)::", "").split("(")[0].removeprefix("void ")
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
    print(f"{'kernel':<44} {'LDG.128':>8} {'STG.128':>8}")
    for cubin in cubins:
        functions = functions_of(nvdisasm, cubin)
        for mangled, name in names_of(sorted(functions)).items():
            if ("bf16" not in name and "unsigned short" not in name) or re.match(r"mma::|plain_", name):
                continue
            seen.add(name)
            everything = (0, len(functions[mangled].instructions) - 1)
            loads, stores = (functions[mangled].count(everything, operation) for operation in (r"LDG\.E\.128", r"STG\.E\.128"))
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
