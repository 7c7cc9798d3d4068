"""One golden file: tensors and one JSON text `cases` that describes them."""

import json
import platform

import numpy as np
import torch
import transformers

REFERENCE_COMMIT = "83757d9c937daabd1089a08051061706cb73900d"


def write_safetensors(path, tensors, metadata):
    """As the safetensors library, but equal content gives equal bytes."""
    header, data = {"__metadata__": metadata}, b""
    for name, array in sorted(tensors.items()):
        kind = "I64" if array.dtype == np.int64 else "F32"
        end = len(data) + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


class GoldenFile:
    def __init__(self, made_from, made_by="scripts/make_golden.py"):
        self.made_from = made_from
        self.made_by = made_by
        self.tensors = {}
        self.cases = {}

    def add(self, case, name, array):
        array = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array)
        kind = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
        self.tensors[f"{case}/{name}"] = np.ascontiguousarray(array.astype(kind))

    def save(self, path):
        metadata = {
            "made_by": self.made_by,
            "made_from": self.made_from,
            "versions": f"python {platform.python_version()}, torch {torch.__version__}, "
            f"transformers {transformers.__version__}, numpy {np.__version__}",
            "cases": json.dumps(self.cases, separators=(",", ":")),
        }
        write_safetensors(path, self.tensors, metadata)
        print(f"{path}: {len(self.cases)} cases, {len(self.tensors)} tensors")
