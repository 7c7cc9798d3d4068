#!/usr/bin/env python3
"""Counts what the main loops of kernels on tensor cores issue, from their machine code.

usage: loop_counts.py NVDISASM BOUNDS CUBIN...

A loop is what lies between a backward branch and its target. The main loop of a kernel is, of the innermost loops with
tensor-core products (HMMA), one with the most of them, and of those the one with the fewest instructions. With the products
of warpgroups (HGMMA) it is the loop with the fewest instructions a product: waits that are tried again from the end of the
code look like loops around it. Reads of shared memory for products are LDSM; HGMMA reads by itself. BOUNDS holds a line a
kernel: name | LDSM per product at most | instructions per product at most. Fails if a kernel exceeds them, has no such loop
or stands not in BOUNDS.
"""
import re
import subprocess
import sys

PRODUCT = "HG?MMA"


class Code:
    """The instructions of one function and the labels before them."""

    def __init__(self):
        self.instructions, self.labels = [], {}

    def count(self, loop, operation):
        pattern = re.compile(r"(@!?U?P\w+ +)?" + operation + r"\b")
        return sum(1 for text in self.instructions[loop[0] : loop[1] + 1] if pattern.match(text))

    def loops(self):
        for i, text in enumerate(self.instructions):
            target = re.search(r"\bBRA\b.*?(\.L_x_\d+)", text)
            if target and self.labels.get(target.group(1), i + 1) <= i:
                yield self.labels[target.group(1)], i

    def main_loop(self):
        loops = {loop for loop in self.loops() if self.count(loop, PRODUCT) > 0}
        if any(self.count(loop, "HGMMA") for loop in loops):
            return min(loops, key=lambda loop: (loop[1] - loop[0] + 1) / self.count(loop, PRODUCT))
        innermost = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
        return min(innermost, key=lambda loop: (-self.count(loop, PRODUCT), loop[1] - loop[0]), default=None)


def functions_of(nvdisasm, cubin):
    """Code by mangled name."""
    functions, code = {}, None
    for line in subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout.splitlines():
        section = re.match(r"\s*\.section\s+(\S+?),", line)
        label = re.match(r"(\.L_x_\d+):", line)
        instruction = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line)
        if section:
            name = section.group(1)
            code = functions.setdefault(name[len(".text.") :], Code()) if name.startswith(".text.") else None
        elif code is not None and label:
            code.labels[label.group(1)] = len(code.instructions)
        elif code is not None and instruction:
            code.instructions.append(instruction.group(1))
    return functions


def kernel_of(mangled):
    """For a kernel of attention on tensor cores: its name and width, and the type of its elements."""
    found = re.search(r"mma\d+(\w+?_kernel)ILi(\d+)E\d*(__nv_bfloat16|6__half)", mangled)
    if found:
        return f"{found.group(1)}<{found.group(2)}>", "bf16" if "bf" in found.group(3) else "f16"
    found = re.search(r"(6hopper.*|3mma)\d+(\w+_kernel)I\d*(__nv_bfloat16|__half)", mangled)
    if not found:
        return None
    room = "hopper::" if "hopper" in found.group(1) else ""
    return room + found.group(2), "bf16" if "bf" in found.group(3) else "f16"


def bounds_of(path):
    with open(path, encoding="utf-8") as lines:
        rows = [line.split("|") for line in lines if line.strip() and not line.startswith("#")]
    return {name.strip(): (float(loads), float(instructions)) for name, loads, instructions in rows}


def main():
    nvdisasm, bounds_path, *cubins = sys.argv[1:]
    bounds, seen, wrong = bounds_of(bounds_path), set(), []
    print(f"{'kernel':<24} {'type':<5} {'mma':>5} {'LDSM':>5} {'a mma':>7} {'all':>6} {'a mma':>7}")
    for cubin in cubins:
        for mangled, code in sorted(functions_of(nvdisasm, cubin).items()):
            kernel = kernel_of(mangled)
            if not kernel:
                continue
            name, dtype = kernel
            loop = code.main_loop()
            if loop is None and name not in bounds:  # it multiplies nothing
                continue
            seen.add(name)
            if loop is None or name not in bounds:
                wrong.append(f"{name} has no loop with products" if loop is None else f"{name} stands not in {bounds_path}")
                continue
            products, loads, instructions = code.count(loop, PRODUCT), code.count(loop, "LDSM"), loop[1] - loop[0] + 1
            print(
                f"{name:<24} {dtype:<5} {products:>5} {loads:>5} {loads / products:>7.4f} {instructions:>6} {instructions / products:>7.2f}"
            )
            if loads / products > bounds[name][0] or instructions / products > bounds[name][1]:
                wrong.append(f"{name} in {dtype} exceeds its bounds in {bounds_path}")
    without_hopper = not any("_hopper" in cubin for cubin in cubins)  # a build may leave it out
    left_out = {name for name in bounds if without_hopper and name.startswith("hopper::")}
    wrong += [f"{name} of {bounds_path} is in none of the files" for name in sorted(bounds.keys() - seen - left_out)]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
