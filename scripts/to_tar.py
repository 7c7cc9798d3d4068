#!/usr/bin/env python3
"""Turns Parquet files and Hugging Face `datasets` folders into tar shards, which facet reads as tar:PATTERN.

A row becomes the members KEY.jpg (.png, .webp) and KEY.json (a conversation) or KEY.txt (a caption); KEY is the row's number.
INPUT is a .parquet or .arrow file, a folder of save_to_disk (state.json or dataset_dict.json), or any folder with such files, as a
snapshot of the hub is. Images are struct{bytes, path}, binary, paths relative to --image-root, or lists of one of these. Columns
that are not named are found by their usual names. Batches of 64 rows are read at a time.

Rows without one usable image and a text are left out; the last line says how many and why. Shards have their names only when all
are complete. Exit codes: 64 the command line, 65 an input is wrong or has no usable row, 66 an input is not there, 69 no pyarrow,
74 writing failed.

examples:
  to_tar.py ~/data/captions.parquet --output /scratch/mine/shard
  to_tar.py saved_dataset --split train --question question --answer answer --output /scratch/vqa/train
  to_tar.py snapshot --split en/train --image images --conversations texts --output /scratch/chat/
  facet train ... --dataset_names 'tar:/scratch/mine/shard-{000000..000012}.tar'
"""
import argparse
import collections
import glob
import io
import json
import os
import re
import sys
import tarfile

from arrow_tables import Stop, files_of, load_pyarrow, one_line, open_table

IMAGE_NAMES = ("image", "images", "jpg", "png", "webp", "img", "picture", "image_bytes", "image_path")
CHAT_NAMES = ("conversations", "messages", "conversation", "texts")
TEXT_NAMES = ("text", "caption", "captions", "txt", "sentence", "sentences")
ANSWER_NAMES = ("answer", "answers")


class LeftOut(Exception):
    """Why a row is not used."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Stop(64, f"{message} (see --help)")


# Which columns


def first_of(candidates, names):
    return next((name for name in candidates if name in names), None)


def is_image_struct(kind):
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return str(kind).startswith("struct<") and "bytes: " in str(kind)


def find_image(schema):
    return first_of(IMAGE_NAMES, schema.names) or next((f.name for f in schema if is_image_struct(f.type)), None)


def find_text(names):
    """The columns of one form of text, the richest there is: a conversation, question and answer, a caption."""
    chat = first_of(CHAT_NAMES, names)
    answer = first_of(ANSWER_NAMES, names)
    if chat:
        return {"chat": chat}
    if "question" in names and answer:
        return {"question": "question", "answer": answer}
    text = first_of(TEXT_NAMES, names)
    return {"text": text} if text else {}


def choose_columns(options, table):
    """{"image": NAME, and "chat", "question" and "answer", or "text": NAME}, as named on the command line or found."""
    names = table.schema.names
    given = {role: getattr(options, role) for role in ("chat", "question", "answer", "text") if getattr(options, role)}
    columns = {"image": options.image or find_image(table.schema), **(given or find_text(names))}
    there = f"the columns are {', '.join(names)}"
    for name in columns.values():
        if name is not None and name not in names:
            raise Stop(65, f"{table.path}: no column {name}; {there}")
        if names.count(name) > 1:
            raise Stop(65, f"{table.path}: several columns {name}; {there}")
    if columns["image"] is None:
        raise Stop(65, f"{table.path}: which column has the images? Name it with --image; {there}")
    if len(columns) == 1:
        raise Stop(65, f"{table.path}: which has the text? Name --conversations, --question and --answer, or --text; {there}")
    return columns


# One sample


def kind_of(content):
    """The member's ending by the first bytes, or None."""
    if content[:3] == b"\xff\xd8\xff":
        return "jpg"
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def read_image_file(path, root):
    whole = os.path.normpath(os.path.join(root, path))
    if os.path.commonpath([os.path.abspath(root), os.path.abspath(whole)]) != os.path.abspath(root):
        raise LeftOut("an image path that leads out of --image-root")
    if not os.path.isfile(whole):
        raise LeftOut("an image file that is not there")
    try:
        with open(whole, "rb") as file:
            return file.read()
    except OSError as error:
        raise LeftOut("an image file that cannot be read") from error


def image_of(value, root):
    """(ending, bytes)"""
    if isinstance(value, list):
        if len(value) > 1:
            raise LeftOut("more than one image")
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not value:
        raise LeftOut("no image")
    content = read_image_file(value, root) if isinstance(value, str) else value
    kind = kind_of(content) if isinstance(content, bytes) else None
    if kind is None:
        raise LeftOut("an image that is no JPEG, PNG or WebP")
    return kind, content


def plain_text(value):
    """A text; of a list the first; of parts of a message (type text or image) all, an image as <image>."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = "\n".join("<image>" if part.get("type") == "image" else part.get("text") or "" for part in value)
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, str) or not value.strip():
        raise LeftOut("no text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise LeftOut("a text that is no Unicode")
    return value


def turns_in(value):
    """[(role, text)] of turns from/value, role/content or user/assistant, also as JSON text or as a struct of lists."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, dict):
        value = [dict(zip(value, turn)) for turn in zip(*value.values())]
    turns = []
    for turn in value or []:
        if "user" in turn:
            turns += [("user", turn["user"]), ("assistant", turn["assistant"])]
        else:
            turns.append((turn["from"], turn["value"]) if "from" in turn else (turn["role"], turn["content"]))
    if turns and turns[0][0] == "system" and not turns[0][1]:
        turns = turns[1:]
    return [({"human": "user", "gpt": "assistant"}.get(role, role), plain_text(text)) for role, text in turns]


def check_turns(turns):
    """What facet takes: system only at the begin, question and answer by turns, <image> at most once."""
    roles = [role for role, _ in turns]
    if roles[:1] == ["system"]:
        roles = roles[1:]
    if len(roles) < 2 or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(roles)):
        raise LeftOut("turns that are not question and answer by turns")
    if sum(text.count("<image>") for role, text in turns if role == "user") > 1:
        raise LeftOut("more than one <image>")


def conversation_of(row, columns):
    if "chat" not in columns:
        return [("user", plain_text(row[columns["question"]])), ("assistant", plain_text(row[columns["answer"]]))]
    try:
        turns = turns_in(row[columns["chat"]])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeftOut("a conversation of an unknown form") from error
    return turns


def text_of(row, columns):
    """(ending, bytes)"""
    if "text" in columns:
        return "txt", plain_text(row[columns["text"]]).encode()
    turns = conversation_of(row, columns)
    check_turns(turns)
    messages = [{"role": role, "content": text} for role, text in turns]
    return "json", json.dumps({"messages": messages}, ensure_ascii=False).encode()


# Shards


class Shards:
    """PREFIX-000000.tar and so on, under temporary names until finish(); abandon() removes what is not finished."""

    def __init__(self, prefix, samples_per_shard):
        self.prefix, self.samples_per_shard = prefix, samples_per_shard
        self.samples, self.tar, self.names = 0, None, []
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)

    def add(self, key, parts):
        if self.samples % self.samples_per_shard == 0:
            self.next_shard()
        for ending, content in parts:
            member = tarfile.TarInfo(f"{key}.{ending}")  # time, owner and group are 0
            member.size = len(content)
            self.tar.addfile(member, io.BytesIO(content))
        self.samples += 1

    def next_shard(self):
        self.close()
        self.names.append(f"{self.prefix}-{len(self.names):06d}.tar")
        self.tar = tarfile.open(self.names[-1] + ".part", "w", format=tarfile.USTAR_FORMAT)

    def close(self):
        if self.tar:
            self.tar.close()
            self.tar = None

    def finish(self):
        self.close()
        for name in self.names:
            os.replace(name + ".part", name)
        for old in set(shards_there(self.prefix)) - set(self.names):
            os.remove(old)

    def abandon(self):
        for name in self.names:
            if os.path.exists(name + ".part"):
                os.remove(name + ".part")

    def pattern(self):
        return f"{self.prefix}-{{000000..{len(self.names) - 1:06d}}}.tar" if len(self.names) > 1 else self.names[0]


def shards_there(prefix):
    return [name for name in glob.glob(glob.escape(prefix) + "-*.tar") if re.search(r"-\d{6}\.tar$", name)]


def prefix_of(output):
    return os.path.join(output, "shard") if output.endswith("/") or os.path.isdir(output) else output


# The program


def rows_of(columns_of, options, pyarrow):
    """(place, row, columns, image root). Only one file is open at a time."""
    for path, columns in columns_of.items():
        root = options.image_root or os.path.dirname(path) or "."
        try:
            for i, row in enumerate(open_table(path, pyarrow).rows(list(dict.fromkeys(columns.values())))):
                yield f"{path} row {i}", row, columns, root
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise Stop(65, f"{path} is damaged: {one_line(error)}") from error


def write_rows(rows, shards):
    """Writes the samples; how many rows are left out, why, and where the first of each kind is, in a line."""
    left_out, first, number = collections.Counter(), {}, -1
    for number, (place, row, columns, root) in enumerate(rows):
        try:
            parts = [image_of(row[columns["image"]], root), text_of(row, columns)]
        except LeftOut as reason:
            left_out[str(reason)] += 1
            first.setdefault(str(reason), place)
            continue
        shards.add(f"{number:09d}", parts)
    reasons = [f"{count} with {reason} (first: {first[reason]})" for reason, count in left_out.items()]
    return f"{sum(left_out.values())} of {number + 1} rows left out" + "".join((": ", "; ".join(reasons)) if reasons else "")


def parse(arguments):
    summary, examples = __doc__.split("\nexamples:\n")
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=summary, epilog="examples:\n" + examples, formatter_class=plain, allow_abbrev=False)
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--output", required=True, metavar="PREFIX", help="PREFIX-000000.tar ...; of DIR/, DIR/shard-...")
    parser.add_argument("--split", help="of folders with several: train, or en/train in a folder of several configurations")
    parser.add_argument("--image", metavar="COLUMN")
    parser.add_argument("--image-root", metavar="DIR", help="where image paths begin (default: the directory of the input file)")
    parser.add_argument("--text", metavar="COLUMN", help="a caption; of a list the first")
    parser.add_argument("--question", metavar="COLUMN")
    parser.add_argument("--answer", metavar="COLUMN", help="of a list the first")
    parser.add_argument("--conversations", "--messages", dest="chat", metavar="COLUMN", help="turns; also as JSON text")
    parser.add_argument("--samples-per-shard", type=int, default=10000, metavar="N", help="default: 10000")
    parser.add_argument("--force", action="store_true", help="replace the shards that have this prefix")
    options = parser.parse_args(arguments)
    check_options(options, parser)
    return options


def check_options(options, parser):
    if options.samples_per_shard < 1:
        parser.error("--samples-per-shard must be at least 1")
    if bool(options.question) != bool(options.answer):
        parser.error("--question and --answer belong together")
    if sum(map(bool, (options.chat, options.answer, options.text))) > 1:
        parser.error("give one of --conversations, --question with --answer, and --text")
    options.prefix = prefix_of(options.output)
    if "{" in options.prefix:
        parser.error("--output must not have a brace: facet would take it for a pattern")
    if shards_there(options.prefix) and not options.force:
        parser.error(f"{shards_there(options.prefix)[0]} is there already; --force replaces all shards of this prefix")


def convert(options):
    pyarrow = load_pyarrow()
    files = [file for path in options.inputs for file in files_of(path, options.split)]
    columns_of = {file: choose_columns(options, open_table(file, pyarrow)) for file in files}
    if len(columns_of) < len(files):
        raise Stop(64, "an input is named twice")
    if not columns_of:
        raise Stop(65, f"{options.inputs[0]}: the split has no files")
    shards = Shards(options.prefix, options.samples_per_shard)
    try:
        summary = write_rows(rows_of(columns_of, options, pyarrow), shards)
        if not shards.samples:
            raise Stop(65, f"no row can be used: {summary}")
        shards.finish()
    finally:
        shards.abandon()
    print(f"columns: {', '.join(f'{role} {name}' for role, name in columns_of[files[0]].items())}")
    print(f"{shards.samples} samples: --dataset_names 'tar:{shards.pattern()}'")
    print(summary)


def main(arguments=None):
    """The exit code."""
    try:
        convert(parse(arguments))
    except Stop as stop:
        print(f"error: {stop}", file=sys.stderr)
        return stop.code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 74
    return 0


if __name__ == "__main__":
    sys.exit(main())
