#!/usr/bin/env python3
"""Holds the decoders against Pillow on generated image files, whole and damaged, and prints the counts.

usage: compare_images.py [--build build] [--count 200] [--seed 1] [--keep DIR]
Needs Pillow 10.4, numpy, build/bench/decode_images. `--count`: damaged files of each base file.

For each file either the pixels are Pillow's, or both refuse it, or facet refuses it with a reason that
docs/data.md names. Files that differ are kept in the directory of --keep; their number is the exit status.
"""
import argparse
import collections
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from golden import image_files as files  # noqa: E402

LARGEST = 1 << 24  # pixels; Pillow needs its time for more


def jpegs():
    rgb = Image.fromarray(files.picture(119, 83, 3, 20))
    gray = Image.fromarray(files.picture(45, 31, 1, 21)[..., 0])
    cmyk = Image.fromarray(files.picture(50, 41, 4, 22), "CMYK")
    large = Image.fromarray(files.picture(520, 391, 3, 23))
    named = {f"rgb_{name}": files.saved(rgb, "JPEG", quality=85, subsampling=sampling)
             for name, sampling in (("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0"))}
    for name, options in (("progressive", {"progressive": True}), ("restarts", {"restart_marker_blocks": 3}),
                          ("progressive_restarts", {"progressive": True, "restart_marker_rows": 1}),
                          ("optimized", {"optimize": True}), ("kept", {"keep_rgb": True}), ("q3", {"quality": 3})):
        named[f"rgb_{name}"] = files.saved(rgb, "JPEG", **{"quality": 80, **options})
    exif = Image.Exif()
    exif[0x0112] = 6
    named["exif"] = files.saved(rgb, "JPEG", exif=exif, comment=b"x" * 30, icc_profile=b"y" * 50, dpi=(72, 72))
    named["two_images"] = files.saved(rgb, "MPO", save_all=True, append_images=[rgb.rotate(90)])
    named["gray"] = files.saved(gray, "JPEG")
    named["gray_progressive"] = files.saved(gray, "JPEG", progressive=True)
    named["large"] = files.saved(large, "JPEG", quality=92)
    named["large_progressive"] = files.saved(large, "JPEG", quality=92, progressive=True)
    for progressive in (False, True):
        data = files.saved(cmyk, "JPEG", progressive=progressive)
        for transform in (None, 0, 1, 2):
            named[f"cmyk_{transform}_{progressive}"] = files.adobe(data, transform)
    for transform in (None, 0, 1, 2):
        named[f"rgb_adobe_{transform}"] = files.adobe(named["rgb_420"], transform)
    return named | jpegs_of_tools(named, rgb)


def jpegs_of_tools(named, rgb):
    """What Pillow cannot write: other samplings, scans of one component, arithmetic coding. Needs cjpeg and jpegtran."""
    if not shutil.which("cjpeg"):
        return {}

    def output(data, *command):
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout

    ppm = files.saved(rgb, "PPM")
    tools = {f"rgb_{sample}": output(ppm, "cjpeg", "-sample", sample)
             for sample in ("1x2", "4x1", "4x2", "2x2,1x2,2x1", "1x1,2x1,1x2", "3x1")}
    with tempfile.NamedTemporaryFile("w") as script:
        script.write("0; 1; 2;")
        script.flush()
        tools["scans"] = output(ppm, "cjpeg", "-scans", script.name)
    for name in ("rgb_420", "rgb_progressive", "gray", "cmyk_0_False"):
        tools[f"arithmetic_{name}"] = output(named[name], "jpegtran", "-arithmetic")
    tools["restarts_1"] = output(ppm, "cjpeg", "-restart", "1B", "-sample", "2x2")
    return tools


def pngs(rng):
    named = {}
    for depth, color in ((1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3), (8, 4),
                         (16, 4), (8, 6), (16, 6)):
        for interlaced in (False, True):
            width, height = rng.integers(1, 40, 2)
            samples = files.picture(width, height, files.CHANNELS[color], depth + color).astype(np.int64)
            samples = samples * 257 >> (16 - depth) if depth < 16 else samples * 257 % 65521
            if depth == 16 and color == 0:
                samples %= 700
            palette = rng.integers(0, 256, (1 << depth, 3)) if color == 3 else None
            transparency = {0: b"\0\3", 2: b"\0\3" * 3, 3: bytes(range(min(200, 1 << depth)))}.get(color)
            named[f"{color}_{depth}_{interlaced}"] = files.png(
                samples, color, depth, interlaced, palette, transparency, filters=(0, 1, 2, 3, 4), pieces=3)
    named["short_palette"] = files.png(rng.integers(0, 256, (20, 20, 1)), 3, 8, palette=rng.integers(0, 256, (7, 3)))
    named["no_palette"] = files.png(rng.integers(0, 256, (20, 20, 1)), 3, 8)
    named["large"] = files.saved(Image.fromarray(rng.integers(0, 256, (210, 311, 3)).astype(np.uint8)), "PNG")
    rgb = Image.fromarray(files.picture(30, 22, 3, 5))
    named["animated"] = files.saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90), rgb])
    named["animated_default"] = files.saved(rgb, "PNG", save_all=True, default_image=True, append_images=[rgb.rotate(90), rgb])
    named["animated_box"] = files.animated_png(files.picture(30, 22, 3, 5), (3, 4, 20, 10))
    named["text"] = files.png(files.picture(9, 9, 3, 1), 2, 8, before=files.chunk(b"tEXt", b"a\0b"),
                              after=files.chunk(b"tEXt", b"c\0d"))
    return named


def webps():
    rgb, rgba = (Image.fromarray(files.picture(61, 47, n, n)) for n in (3, 4))
    large = Image.fromarray(files.picture(400, 300, 3, 6))
    named = {f"lossy_{q}": files.saved(rgb, "WEBP", quality=q) for q in (1, 40, 80, 100)}
    named["large"] = files.saved(large, "WEBP", quality=95)
    named["lossless"] = files.saved(rgb, "WEBP", lossless=True)
    named["lossless_large"] = files.saved(large, "WEBP", lossless=True, quality=30)
    named["lossless_palette"] = files.saved(rgb.quantize(6).convert("RGB"), "WEBP", lossless=True)
    named["alpha"] = files.saved(rgba, "WEBP", quality=70, alpha_quality=40)
    named["alpha_exact"] = files.saved(rgba, "WEBP", lossless=True, exact=True)
    named["alpha_lossless"] = files.saved(rgba, "WEBP", lossless=True)
    named["metadata"] = files.saved(rgb, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=b"x" * 200)
    named["animated"] = files.saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(90), rgb], allow_mixed=True)
    named["animated_rgb"] = files.saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)], lossless=True)
    named["animated_box"] = files.animated_webp(rgb.crop((0, 0, 20, 10)), (64, 48), (6, 8))
    return named


def flip(data, draw):
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def overwrite(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.choice([1, 2, 16])) + data[at + 16:]


def cut(data, draw):
    return data[:draw.randrange(len(data))]


def cut_end(data, draw):
    return data[:-draw.randrange(1, min(40, len(data)))]


def drop_bytes(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.randrange(1, 9):]


def insert_bytes(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + draw.choice([draw.randbytes(3), b"\xff", b"\xff\xd9", b"\xff\0", b"\0" * 20]) + data[at:]


def append(data, draw):
    return data + draw.randbytes(draw.randrange(1, 30))


ANYWHERE = [flip, flip, flip, overwrite, cut, cut_end, drop_bytes, insert_bytes, append]


def shuffle_parts(split, join):
    def change(data, draw):
        parts = split(data)
        for _ in range(draw.choice([1, 1, 2])):
            i, j = (draw.randrange(len(parts)) for _ in range(2))
            kind = draw.randrange(3)
            if kind == 0 and len(parts) > 1:
                parts.pop(i)
            elif kind == 1:
                parts.insert(j, parts[i])
            else:
                parts[i], parts[j] = parts[j], parts[i]
        return join(parts)
    return change


def flip_chunk(data, draw):
    """Damage in a chunk under a right checksum."""
    parts = files.chunks(data)
    i = draw.randrange(len(parts))
    kind, body = parts[i]
    if body:
        parts[i] = (kind, draw.choice([flip, flip, overwrite, cut, append])(body, draw))
    return files.of_chunks(parts)


def extra_chunk(data, draw):
    kind = draw.choice([b"ABCD", b"abCd", b"PLTE", b"tRNS", b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs",
                        b"acTL", b"fcTL", b"fdAT", b"tEXt", b"a_c1", b"a c1"])
    parts = files.chunks(data)
    parts.insert(draw.randrange(len(parts) + 1), (kind, draw.randbytes(draw.choice([0, 1, 4, 8, 12, 26, 768]))))
    return files.of_chunks(parts)


def shorter_stream(data, draw):
    """The compressed stream ends by itself after some bytes."""
    parts = files.chunks(data)
    stream = b"".join(body for kind, body in parts if kind == b"IDAT")
    try:
        raw = zlib.decompress(stream)
    except zlib.error:
        return data
    raw = raw[:draw.randrange(len(raw) + 1)]
    packed = zlib.compress(raw, draw.choice([0, 1, 9]))
    step = draw.choice([1, 7, 100000])
    others = [part for part in parts if part[0] != b"IDAT"]
    idat = [(b"IDAT", packed[i:i + step]) for i in range(0, len(packed), step)]
    return files.of_chunks(others[:-1] + idat + others[-1:])


def flip_lines(data, draw):
    """Damage in the scan lines, filters included, under a right stream."""
    parts = files.chunks(data)
    others = [part for part in parts if part[0] != b"IDAT"]
    try:
        raw = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    except zlib.error:
        return data
    packed = zlib.compress(draw.choice([flip, overwrite, drop_bytes, insert_bytes])(raw, draw), draw.choice([0, 1, 9]))
    return files.of_chunks(others[:-1] + [(b"IDAT", packed)] + others[-1:])


def extra_frame(data, draw):
    """Chunks of an animation, mostly sensible."""
    parts = files.chunks(data)
    width, height = struct.unpack(">II", parts[0][1][:8])
    for sequence in range(draw.randrange(1, 4)):
        left, top = draw.randrange(width), draw.randrange(height)
        box = (draw.randrange(width - left + 1), draw.randrange(height - top + 1), left, top)
        frame = struct.pack(">I", draw.choice([sequence, sequence, sequence, 0])) + struct.pack(">IIIIHHBB", *box, 1, 0, 2, 1)
        parts.insert(draw.randrange(1, len(parts)), (b"fcTL", frame))
    parts.insert(draw.randrange(1, len(parts)), (b"acTL", struct.pack(">II", draw.randrange(4), 0)))
    return files.of_chunks(parts)


def flip_part(data, draw):
    """Damage in one part of a WebP file, or parts in another order, under a right total size."""
    parts = files.riff_parts(data)
    i = draw.randrange(len(parts))
    kind, body = parts[i]
    change = draw.randrange(4)
    if change == 0:
        parts.pop(i)
    elif change == 1:
        parts.insert(draw.randrange(len(parts)), parts[i])
    elif body:
        parts[i] = (kind, draw.choice([flip, flip, overwrite, cut, append])(body, draw))
    return files.of_riff_parts(parts)


def flip_scan(data, draw):
    """Damage in the entropy-coded data."""
    parts = files.segments(data)
    scans = [i for i, (marker, _) in enumerate(parts) if marker == 0xDA]
    if not scans:
        return data
    i = draw.choice(scans)
    marker, body = parts[i]
    head = 2 + struct.unpack(">H", body[2:4])[0]
    if len(body) > head:
        parts[i] = (marker, body[:head] + draw.choice([flip, overwrite, cut, drop_bytes, insert_bytes])(body[head:], draw))
    return files.of_segments(parts)


CHANGES = {
    "jpeg": ANYWHERE + [flip_scan] * 4 + [shuffle_parts(files.segments, files.of_segments)],
    "png": ANYWHERE + [flip_chunk, flip_chunk, extra_chunk, extra_chunk, shorter_stream, shorter_stream, flip_lines,
                       flip_lines, flip_lines, flip_lines, extra_frame, shuffle_parts(files.chunks, files.of_chunks)],
    "webp": ANYWHERE + [flip_part] * 4,
}


def make_files(directory, count, seed):
    paths = []
    bases = {"jpeg": jpegs(), "png": pngs(np.random.default_rng(seed)), "webp": webps()}
    for kind, named in bases.items():
        for name, data in named.items():
            for i in range(count + 1):
                draw = random.Random(f"{seed} {kind} {name} {i}")
                changed = data if i == 0 else draw.choice(CHANGES[kind])(data, draw)
                path = directory / f"{kind}.{name}.{i}"
                path.write_bytes(changed)
                paths.append(path)
    return paths


def by_pillow(path):
    try:
        with Image.open(path) as image:
            if image.format not in ("JPEG", "MPO", "PNG", "WEBP"):
                return ("refused", f"a file of format {image.format}")
            if image.width * image.height > LARGEST:
                return None
            rgb = image.convert("RGB")
        return (rgb.width, rgb.height, zlib.crc32(rgb.tobytes()))
    except Exception as error:  # pylint: disable=broad-except
        return ("refused", f"{type(error).__name__}: {error}".replace(str(path), "FILE"))


def by_facet(build, paths):
    names = "".join(f"{path}\n" for path in paths)
    lines = subprocess.run([f"{build}/bench/decode_images"], input=names, text=True, capture_output=True,
                           check=True, errors="replace").stdout.splitlines()
    assert len(lines) == len(paths), f"{len(lines)} answers for {len(paths)} files"
    answers = []
    for path, line in zip(paths, lines):
        words = line.split("\t")
        answers.append(("refused", words[1].replace(str(path), "FILE")) if words[0] == "refused" else
                       tuple(int(word) for word in words))
    return answers


def verdict(pillow, facet):
    if pillow is None:
        return "left out: too large"
    if pillow[0] == "refused":
        return "both refuse" if facet[0] == "refused" else "facet reads, Pillow refuses"
    if facet[0] == "refused":
        return "facet refuses, Pillow reads"
    return "same pixels" if facet == pillow else "DIFFERENT"


def report(counts, reasons):
    verdicts = ["same pixels", "both refuse", "facet refuses, Pillow reads", "facet reads, Pillow refuses", "DIFFERENT",
                "left out: too large"]
    print(f"{'':8}" + "".join(f"{name:>30}" for name in verdicts))
    for kind in CHANGES:
        print(f"{kind:8}" + "".join(f"{counts[kind, name]:30}" for name in verdicts))
    for (kind, name, reason), count in sorted(reasons.items()):
        print(f"{count:6}  {kind}: {name}: {reason}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    counts, reasons, wrong = collections.Counter(), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as directory:
        paths = make_files(pathlib.Path(directory), args.count, args.seed)
        for path, facet in zip(paths, by_facet(args.build, paths)):
            kind = path.name.split(".")[0]
            pillow = by_pillow(path)
            name = verdict(pillow, facet)
            counts[kind, name] += 1
            if "facet" in name:
                reasons[kind, name, facet[1] if facet[0] == "refused" else pillow[1]] += 1
            wrong += name == "DIFFERENT"
            if args.keep and name not in ("same pixels", "both refuse", "left out: too large"):
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{name.split(',')[0].replace(' ', '_')}.{path.name}").write_bytes(path.read_bytes())
    report(counts, reasons)
    sys.exit(min(wrong, 100))


if __name__ == "__main__":
    main()
