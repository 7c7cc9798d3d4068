#!/usr/bin/env python3
"""Golden files for the image decoders: tests/golden/data/decoding and decoding.json.

Files that are unusual or damaged in one way each, with the checksum of the pixels that Pillow reads, or that it
refuses them; and for some of them what Pillow makes of copies cut or with flipped bits (described, not stored).

usage: make_golden_images.py
Needs Pillow 10.4 and numpy.
"""
import io
import json
import pathlib
import random
import struct
import warnings
import zlib

import numpy as np
import PIL
from golden import image_files as files
from PIL import Image, features

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/data"
LISTED = "tests/golden/data/decoding"
TEXT = files.chunk(b"tEXt", b"Title\0a text")


def jpegs():
    rgb = Image.fromarray(files.picture(37, 26, 3, 30))
    baseline = files.saved(rgb, "JPEG", quality=60)
    progressive = files.saved(rgb, "JPEG", quality=60, progressive=True)
    restarts = files.saved(rgb, "JPEG", quality=60, restart_marker_blocks=2)
    cmyk = files.saved(Image.fromarray(files.picture(21, 18, 4, 31), "CMYK"), "JPEG", quality=60)
    parts = files.segments(baseline)
    first_table = next(i for i, (marker, _) in enumerate(parts) if marker == 0xDB)
    scan = next(i for i, (marker, _) in enumerate(parts) if marker == 0xDA)
    tables = files.of_segments([p for p in parts if p[0] in (0xD8, 0xDB, 0xC4, 0xD9)])
    image_only = files.of_segments([p for p in parts if p[0] not in (0xDB, 0xC4)])

    def with_junk(junk, at):
        return files.of_segments(parts[:at]) + junk + files.of_segments(parts[at:])

    return {
        "progressive.jpg": progressive,
        "progressive_gray.jpg": files.saved(rgb.convert("L"), "JPEG", quality=60, progressive=True),
        "restarts.jpg": restarts,
        "rgb_components.jpg": files.saved(rgb, "JPEG", quality=60, keep_rgb=True),
        "cmyk_adobe.jpg": files.adobe(cmyk, 0),
        "cmyk_without_adobe.jpg": files.adobe(cmyk, None),
        "ycck.jpg": files.adobe(cmyk, 2),
        "tables_first.jpg": tables + image_only,
        "junk_before_tables.jpg": with_junk(b"\0\1\2", first_table),
        "junk_like_a_marker.jpg": with_junk(b"\xff\x02\0", first_table),
        "temporary_marker.jpg": with_junk(b"\xff\x01", first_table),
        "stuffed_before_tables.jpg": with_junk(b"\xff\0\xff\xff", first_table),
        "bytes_before_end.jpg": with_junk(b"abc\xff\0abc", scan + 1),
        "bytes_after_end.jpg": baseline + b"abc" + baseline,
        "scan_cut_end_marker.jpg": files.of_segments(parts[:scan]) + parts[scan][1][:-60] + b"\xff\xd9",
        "scan_cut.jpg": files.of_segments(parts[:scan]) + parts[scan][1][:-60],
        "restart_missing.jpg": restarts.replace(b"\xff\xd1", b"", 1),
        "restart_wrong.jpg": restarts.replace(b"\xff\xd1", b"\xff\xd5", 1),
        "no_end_marker.jpg": baseline[:-2],
        "progressive_no_end_marker.jpg": progressive[:-2],
        "tables_missing.jpg": files.of_segments([p for p in parts if p[0] != 0xC4]),
        "second_frame_header.jpg": files.of_segments([q for p in parts for q in ([p, p] if p[0] == 0xC0 else [p])]),
    }


def pngs():
    rng = np.random.default_rng(32)
    rgb = files.picture(13, 11, 3, 33)
    plain = files.png(rgb, 2, 8, filters=(0, 1, 2, 3, 4), before=TEXT, after=TEXT)
    indices = rng.integers(0, 16, (9, 7, 1))
    palette = rng.integers(0, 256, (11, 3))
    head = files.SIGNATURE + files.header(13, 11, 8, 2)
    end = files.chunk(b"IEND", b"")
    lines = files.scan_lines(rgb, 8)

    def short(bytes_of_lines):
        return files.chunk(b"IDAT", zlib.compress(lines[:bytes_of_lines]))

    def wrong_sum(data, kind):
        at = data.index(kind)
        length = struct.unpack(">I", data[at - 4:at])[0]
        return data[:at + 4 + length] + b"\0\0\0\0" + data[at + 8 + length:]

    parted = files.chunks(files.png(rgb, 2, 8, pieces=2))
    dark = np.array([[0, 1, 127, 254, 255, 256, 257, 1000, 65535]]).reshape(1, 9, 1)
    return {
        "filters.png": plain,
        "filters_interlaced.png": files.png(rgb, 2, 8, True, filters=(2, 4, 3, 1)),
        "gray_16_dark.png": files.png(dark, 0, 16),
        "gray_16_dark_interlaced.png": files.png(np.repeat(dark, 9, 0) + np.arange(9).reshape(9, 1, 1), 0, 16, True),
        "gray_2_filters.png": files.png(rng.integers(0, 4, (9, 21, 1)), 0, 2, filters=(1, 3, 4)),
        "gray_alpha_16_filters.png": files.png(rng.integers(0, 65536, (7, 9, 2)), 4, 16, filters=(4, 3)),
        "palette_none.png": files.png(indices, 3, 4),
        "palette_beyond.png": files.png(indices, 3, 4, palette=palette),
        "palette_1_interlaced.png": files.png(indices % 2, 3, 1, True, palette=palette[:2]),
        "palette_cut.png": files.png(indices, 3, 4, before=files.chunk(b"PLTE", bytes(range(100, 131)))),
        "palette_long.png": files.png(indices, 3, 4, palette=rng.integers(0, 256, (257, 3))),
        "palette_alphas.png": files.png(indices, 3, 4, palette=palette, transparency=bytes(range(30))),
        "no_end.png": plain[:-12],
        "cut_in_end.png": plain[:-5],
        "cut_in_text_after.png": plain[:-12 - 4 - 3],
        "cut_in_data.png": plain[:len(plain) - 12 - len(TEXT) - 30],
        "wrong_sum_data.png": wrong_sum(plain, b"IDAT"),
        "wrong_sum_header.png": wrong_sum(plain, b"IHDR"),
        "wrong_sum_text.png": wrong_sum(plain, b"tEXt"),
        "unknown_critical.png": files.png(rgb, 2, 8, before=files.chunk(b"QuaX", b"abc")),
        "name_no_letters.png": files.png(rgb, 2, 8, before=files.chunk(b"a c1", b"abc")),
        "stream_short_row.png": head + short(7 * 40) + end,
        "stream_short_in_row.png": head + short(7 * 40 + 5) + end,
        "stream_short_palette.png": (files.SIGNATURE + files.header(7, 9, 8, 3) + files.chunk(b"PLTE", bytes(range(90, 120))) +
                                     files.chunk(b"IDAT", zlib.compress(b"\0\1\2\3\4\5\6\7")) + end),
        "stream_long.png": head + files.chunk(b"IDAT", zlib.compress(lines + b"more" * 9)) + end,
        "stream_bad_sum.png": head + files.chunk(b"IDAT", zlib.compress(lines)[:-4] + b"abcd") + end,
        "stream_bad_sum_apart.png": head + files.chunk(b"IDAT", zlib.compress(lines)[:-4]) + files.chunk(b"IDAT", b"abcd") + end,
        "filter_unknown.png": head + files.chunk(b"IDAT", zlib.compress(lines[:40] + b"\5" + lines[41:])) + end,
        "empty_data_chunks.png": files.of_chunks([q for p in files.chunks(plain)
                                                  for q in ([(b"IDAT", b""), p, (b"IDAT", b"")] if p[0] == b"IDAT" else [p])]),
        "data_interrupted.png": files.of_chunks(parted[:2] + [(b"tEXt", b"a text")] + parted[2:]),
        "animated.png": files.animated_png(rgb, (0, 0, 13, 11)),
        "animated_corner.png": files.animated_png(rgb, (2, 3, 6, 5)),
        "animated_outside.png": files.animated_png(rgb, (8, 3, 6, 5)),
        "animated_miscounted.png": files.animated_png(rgb, (2, 3, 6, 5), seed=1),
        "animated_default.png": files.saved(Image.fromarray(rgb), "PNG", save_all=True, default_image=True,
                                            append_images=[Image.fromarray(255 - rgb)]),
    }


def webps():
    rgb, rgba = (Image.fromarray(files.picture(30, 22, n, 34 + n)) for n in (3, 4))
    lossy = files.saved(rgb, "WEBP", quality=70)
    return {
        "lossy.webp": lossy,
        "lossy_alpha.webp": files.saved(rgba, "WEBP", quality=50, alpha_quality=30),
        "lossless.webp": files.saved(rgb, "WEBP", lossless=True),
        "lossless_alpha.webp": files.saved(rgba, "WEBP", lossless=True, exact=True),
        "metadata.webp": files.saved(rgb, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=b"profile"),
        "animated.webp": files.saved(rgba, "WEBP", save_all=True, append_images=[rgb]),
        "animated_corner.webp": files.animated_webp(rgb.crop((0, 0, 16, 10)), (30, 22), (4, 6)),
        "cut.webp": lossy[:-20],
        "bytes_after.webp": lossy + b"abc",
    }


def outcome(data):
    """[width, height, checksum of the pixels] or None if Pillow refuses."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            rgb = image.convert("RGB")
        return [rgb.width, rgb.height, zlib.crc32(rgb.tobytes())]
    except Exception:  # pylint: disable=broad-except
        return None


def record(outcome_of_file, **what):
    if outcome_of_file is None:
        return {**what, "refused": True}
    width, height, pixels = outcome_of_file
    return {**what, "width": width, "height": height, "pixels": pixels}


DAMAGED = ["restarts.jpg", "progressive.jpg", "cmyk_adobe.jpg", "filters.png", "gray_2_filters.png", "animated_corner.png",
           "lossy.webp", "lossless.webp", "lossy_alpha.webp"]


def describe_damaged(named):
    """Each copy is cut to `length` bytes, or has the bits `flips` changed: number of the byte times 8, plus the bit's."""
    records = []
    for name in DAMAGED:
        draw = random.Random(name)
        for _ in range(16):
            length = draw.randrange(len(named[name]))
            records.append(record(outcome(named[name][:length]), file=f"{LISTED}/{name}", length=length, flips=[]))
        for _ in range(24):
            data = bytearray(named[name])
            flips = [draw.randrange(8 * len(data)) for _ in range(draw.choice([1, 1, 3]))]
            for bit in flips:
                data[bit // 8] ^= 1 << bit % 8
            records.append(record(outcome(bytes(data)), file=f"{LISTED}/{name}", length=len(data), flips=flips))
    return records


def main():
    warnings.simplefilter("ignore")
    named = {**jpegs(), **pngs(), **webps()}
    (ROOT / LISTED).mkdir(parents=True, exist_ok=True)
    for name, data in named.items():
        (ROOT / LISTED / name).write_bytes(data)
    made_with = {"pillow": PIL.__version__, "numpy": np.__version__, "libjpeg-turbo": features.version("libjpeg_turbo"),
                 "zlib": features.version("zlib"), "webp": features.version("webp")}
    whole = [record(outcome(data), file=f"{LISTED}/{name}") for name, data in sorted(named.items())]
    text = json.dumps({"made_with": made_with, "files": whole, "damaged": describe_damaged(named)}, separators=(",", ":"))
    (OUT / "decoding.json").write_text(text.replace('{"file"', '\n{"file"') + "\n")


if __name__ == "__main__":
    main()
