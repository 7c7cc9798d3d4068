"""Reads a checkpoint's state.h5 with h5py and compares it with manifest.json, without this program; prints one line per parameter.

usage: check_checkpoint.py CHECKPOINT [CHECKPOINT]   (a second one: every array of both must be equal to the bit)
"""

import json
import pathlib
import sys

import h5py
import numpy


def read(directory):
    """Name -> array, in its own shape."""
    directory = pathlib.Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    arrays = {}
    with h5py.File(directory / "state.h5", "r") as file:
        for name, value in manifest["state"].items():
            stored = file.attrs[name]
            stored = stored.decode() if isinstance(stored, bytes) else stored
            assert numpy.array_equal(stored, value), f"attribute {name}: {stored} in the file, {value} in the manifest"
        for entry in manifest["arrays"]:
            data = file[entry["name"]]
            assert data.dtype == numpy.dtype("<f4") and data.id.get_offset() == entry["offset"], entry["name"]
            assert list(data.attrs["shape"]) == entry["shape"], entry["name"]
            arrays[entry["name"]] = data[:].reshape(entry["shape"])
        found = []
        file["param"].visititems(lambda name, item: found.append("param/" + name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(found) == sorted(arrays), "the manifest and the file hold different arrays"
    return manifest["state"], arrays


def main():
    state, arrays = read(sys.argv[1])
    print(f"step {state['step']}, epoch {state['epoch']}, {len(arrays)} arrays")
    for name, array in arrays.items():
        if name.endswith("/fp32"):
            print(f"  {name[6:-5]:60} {str(array.shape):16} rms {numpy.sqrt(numpy.mean(array.astype(float) ** 2)):.6g}")
    if len(sys.argv) > 2:
        _, others = read(sys.argv[2])
        assert arrays.keys() == others.keys(), "they hold different arrays"
        differing = [name for name in arrays if arrays[name].tobytes() != others[name].tobytes()]
        print(f"{len(differing)} of {len(arrays)} arrays differ", *differing, sep="\n  ")
        sys.exit(bool(differing))


main()
