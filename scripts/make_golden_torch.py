#!/usr/bin/env python3
"""Makes the files of torch.save() in tests/golden/torch, and what they hold as safetensors.

Needs torch (made with 2.5.1), safetensors and numpy:

    scripts/make_golden_torch.py --output tests/golden/torch

expected.safetensors holds FILE/TENSOR, contiguous and in fp32, of each file that can be read. The
other files must be refused.
"""

import argparse
import json
import pathlib
from collections import OrderedDict

import torch
from safetensors.torch import save_file


def numbers(*shape, dtype=torch.float32):
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 37 % 101 - 50) / 8).reshape(shape).to(dtype)


class Tied(torch.nn.Module):
    """Two names of one weight, a buffer of integers, versions in the state_dict's attributes."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.norm = torch.nn.BatchNorm1d(3)
        self.embed.weight.data = numbers(5, 4)
        self.head.weight = self.embed.weight


def views():
    shared = numbers(6, 8)
    halves = numbers(2, 3, 4, dtype=torch.float16)
    return {
        "whole": shared,
        "transposed": shared.t(),
        "cut": shared[1:5, 2:6],
        "stepped": shared[::2, ::3],
        "row": shared[3],
        "permuted": halves.permute(2, 0, 1),
        "bf16": numbers(4, 3, dtype=torch.bfloat16).t(),
        "f64": (numbers(3, 2, dtype=torch.float64) + 1e-9).t(),
        "expanded": numbers(1, 3).expand(4, 3),
        "windows": numbers(7).unfold(0, 3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "one": numbers(2, 1, 3).transpose(0, 1),
    }


def parameters():
    return OrderedDict(
        weight=torch.nn.Parameter(numbers(3, 2).t()), frozen=torch.nn.Parameter(numbers(2), False)
    )


def save_shards(directory):
    shards = {"1-of-2": {"a": numbers(2, 3)}, "2-of-2": {"b": numbers(4), "c": numbers(3, 2).t()}}
    weight_map = {}
    for number, tensors in shards.items():
        name = f"pytorch_model-{number}.bin"
        torch.save(tensors, directory / name)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 64}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return shards["1-of-2"] | shards["2-of-2"]


def save_refused(out):
    torch.save(numbers(2), out / "tensor_only.bin")
    torch.save({"state_dict": {"a": numbers(2)}, "epoch": 3}, out / "nested.bin")
    torch.save(torch.nn.Linear(2, 2), out / "module.bin")
    torch.save({"a": numbers(2).to(torch.float8_e4m3fn)}, out / "float8.bin")
    torch.save({"a": numbers(2)}, out / "before_1_6.bin", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out / "script.bin")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="tests/golden/torch")
    out = pathlib.Path(parser.parse_args().output)
    (out / "shards").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    readable = {"state_dict": Tied().state_dict(), "views": views(), "parameters": parameters()}
    for name, tensors in readable.items():
        torch.save(tensors, out / f"{name}.bin")
    torch.save(readable["views"], out / "protocol_4.bin", pickle_protocol=4)
    readable["protocol_4"] = readable["views"]
    readable["shards"] = save_shards(out / "shards")
    save_refused(out)
    expected = {
        f"{file}/{name}": tensor.detach().float().contiguous().clone()
        for file, tensors in readable.items()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    save_file(expected, out / "expected.safetensors")


if __name__ == "__main__":
    main()
