"""Reads a checkpoint's state.h5 with h5py and compares it with manifest.json, without this program; prints one line per parameter.

usage: check_checkpoint.py CHECKPOINT [CHECKPOINT [TOLERANCE]]

A second checkpoint must hold the same arrays: equal to the bit, or with a tolerance close to them. Close: for the masters, for the first
and for the second moments, each taken as one vector over all parameters, |A - B| <= TOLERANCE |B| in the L2 norm. (An array by itself may be
noise only, as the moments of a bias whose gradient is zero by nature.)
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
            if name in ("product_choices", "own_alphas"):
                continue  # in the manifest alone
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


def equal(arrays, others):
    differing = [name for name in arrays if arrays[name].tobytes() != others[name].tobytes()]
    print(f"{len(differing)} of {len(arrays)} arrays differ", *differing, sep="\n  ")
    return not differing


def close(arrays, others, tolerance):
    fine = True
    for kind in ("fp32", "exp_avg", "exp_avg_sq"):
        names = [name for name in arrays if name.endswith("/" + kind)]
        a, b = (numpy.concatenate([x[name].ravel().astype(numpy.float64) for name in names]) for x in (arrays, others))
        distance = numpy.linalg.norm(a - b) / numpy.linalg.norm(b)
        print(f"{kind}: |A - B| / |B| = {distance:.3g}")
        fine = fine and bool(distance <= tolerance)  # false for a NaN
    return fine


def main():
    state, arrays = read(sys.argv[1])
    print(f"step {state['step']}, epoch {state['epoch']}, {len(arrays)} arrays")
    if len(sys.argv) == 2:
        for name, array in arrays.items():
            if name.endswith("/fp32"):
                print(f"  {name[6:-5]:60} {str(array.shape):16} rms {numpy.sqrt(numpy.mean(array.astype(float) ** 2)):.6g}")
        return
    _, others = read(sys.argv[2])
    assert arrays.keys() == others.keys(), "they hold different arrays"
    fine = close(arrays, others, float(sys.argv[3])) if len(sys.argv) > 3 else equal(arrays, others)
    sys.exit(not fine)


main()
