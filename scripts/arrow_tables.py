"""Rows of Parquet and Arrow files and of Hugging Face `datasets` folders, one at a time, for to_tar.py. Needs pyarrow.

All errors are Stop: 64 several splits, 65 a file is wrong, 66 it is not there, 69 there is no pyarrow.
"""

import collections
import glob
import json
import os
import re

BATCH_ROWS = 64
KNOWN_SPLITS = ("train", "test", "validation", "val", "valid", "dev")


class Stop(Exception):
    """Ends the program with a code and one line."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def load_pyarrow():
    try:
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise Stop(69, f"this needs pyarrow: python3 -m venv ~/arrow && ~/arrow/bin/pip install pyarrow ({error})") from error
    return pyarrow


# Which files


def split_of(file, top):
    """train of train-00000-of-00002.parquet, en/train of en/train/0.parquet; `all` where no name says."""
    folders = [part for part in os.path.relpath(os.path.dirname(file), top).split(os.sep) if part not in (".", "data")]
    stem = os.path.splitext(os.path.basename(file))[0]
    numbered = re.match(r"(.+?)-\d+-of-\d+(-[0-9a-f]+)?$", stem)
    if numbered and numbered.group(1) != "data":
        folders.append(numbered.group(1))
    elif stem in KNOWN_SPLITS:
        folders.append(stem)
    return "/".join(folders) or "all"


def read_json(path, key):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)[key]
    except OSError as error:
        raise Stop(66, f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Stop(65, f"{path}: no JSON object with {key} ({error!r})") from error


def saved_files(folder):
    """The files of one split of save_to_disk, in order."""
    state = os.path.join(folder, "state.json")
    try:
        return [os.path.join(folder, entry["filename"]) for entry in read_json(state, "_data_files")]
    except (KeyError, TypeError) as error:
        raise Stop(65, f"{state}: _data_files is no list of objects with filename") from error


def splits_in(folder):
    """{split: files}"""
    if os.path.exists(os.path.join(folder, "state.json")):
        return {read_json(os.path.join(folder, "state.json"), "_split") or "all": saved_files(folder)}
    if os.path.exists(os.path.join(folder, "dataset_dict.json")):
        names = read_json(os.path.join(folder, "dataset_dict.json"), "splits")
        return {name: saved_files(os.path.join(folder, name)) for name in names}
    splits = collections.defaultdict(list)
    for ending in ("parquet", "arrow"):
        for file in sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*." + ending), recursive=True)):
            splits[split_of(file, folder)].append(file)
        if splits:
            break
    return splits


def files_of(path, split):
    """The files of an input, of the one split that is asked for or there."""
    if not os.path.exists(path):
        raise Stop(66, f"{path} is not there")
    if not os.path.isdir(path):
        return [path]
    splits = splits_in(path)
    if not splits:
        raise Stop(66, f"{path}: no .parquet or .arrow file, state.json or dataset_dict.json in it")
    if split is None and len(splits) > 1:
        raise Stop(64, f"{path} has several splits: choose one with --split: {', '.join(sorted(splits))}")
    if split is not None and split not in splits:
        raise Stop(66, f"{path}: no split {split}; there are {', '.join(sorted(splits))}")
    return splits[split] if split else next(iter(splits.values()))


# Rows


class Table:
    """A Parquet or Arrow file (file or streaming format): its schema, and its rows without reading all of it."""

    def __init__(self, path, pyarrow):
        self.path, self.pa = path, pyarrow
        with open(path, "rb") as file:
            magic = file.read(6)
        self.parquet = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) if magic[:4] == b"PAR1" else None
        self.in_blocks = magic == b"ARROW1"
        self.schema = self.parquet.schema_arrow if self.parquet else self.reader().schema

    def reader(self):
        source = self.pa.memory_map(self.path)
        return self.pa.ipc.open_file(source) if self.in_blocks else self.pa.ipc.open_stream(source)

    def batches(self, names):
        if self.parquet:
            return self.parquet.iter_batches(batch_size=BATCH_ROWS, columns=names)
        reader = self.reader()
        return map(reader.get_batch, range(reader.num_record_batches)) if self.in_blocks else reader

    def rows(self, names):
        """Dictionaries, one at a time."""
        for batch in self.batches(names):
            columns = [batch.column(batch.schema.get_field_index(name)) for name in names]
            for i in range(batch.num_rows):
                yield {name: column[i].as_py() for name, column in zip(names, columns)}


def open_table(path, pyarrow):
    if not os.path.isfile(path):
        raise Stop(66, f"{path} is not there, or is no file")
    try:
        return Table(path, pyarrow)
    except (OSError, pyarrow.ArrowException) as error:
        raise Stop(65, f"{path}: no Parquet or Arrow file that can be read: {one_line(error)}") from error


def one_line(error):
    return " ".join(str(error).split())
