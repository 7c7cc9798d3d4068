"""Image files in many storage formats, and such that no writer makes: made by hand from chunks and markers."""
import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def picture(width, height, channels, seed):
    """Smooth colours, a hard edge and noise: exercises every part of a decoder and of a filter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        wave = np.sin(x / (5 + c) + c) + np.cos(y / (7 - c % 3))
        edge = ((x * 2 + y * (c + 1)) % 23 < 9) * 1.5
        planes.append(wave + edge + rng.normal(0, 0.3, (height, width)))
    image = np.stack(planes, -1)
    image = (image - image.min()) / (image.max() - image.min())
    return (image * 255).round().astype(np.uint8)


def saved(image, kind, **options):
    """The bytes of a file as Pillow writes it."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# PNG

def pack_bits(samples, depth):
    """One scan line of samples as PNG stores them."""
    if depth == 16:
        return samples.astype(">u2").tobytes()
    if depth == 8:
        return samples.astype(np.uint8).tobytes()
    bits = np.unpackbits(samples.astype(np.uint8)[:, None], axis=1)[:, 8 - depth:]
    return np.packbits(bits.reshape(-1)).tobytes()


def paeth(a, b, c):
    pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filter_row(kind, row, above, pixel):
    """One scan line with its filter's number; `pixel`: bytes of a pixel, at least 1."""
    out = bytearray([kind])
    for i, value in enumerate(row):
        a = row[i - pixel] if i >= pixel else 0
        c = above[i - pixel] if i >= pixel else 0
        b = above[i]
        out.append((value - [0, a, b, (a + b) // 2, paeth(a, b, c)][kind]) & 255)
    return bytes(out)


def scan_lines(samples, depth, interlaced=False, filters=(0,)):
    """samples: (height, width, channels); the filters are used by turns."""
    pixel = max(1, depth * samples.shape[2] // 8)
    raw, count = b"", 0
    for x0, y0, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = samples[y0::dy, x0::dx]
        above = None
        for row in part if part.size else []:
            packed = pack_bits(row.reshape(-1), depth)
            raw += filter_row(filters[count % len(filters)], packed, above or bytes(len(packed)), pixel)
            above, count = packed, count + 1
    return raw


def chunk(kind, body, checksum=None):
    crc = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def header(width, height, depth, color_type, interlaced=False):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced))


def png(samples, color_type, depth, interlaced=False, palette=None, transparency=None, filters=(0,), pieces=1,
        before=b"", after=b"", end=chunk(b"IEND", b"")):
    """PNG in forms that Pillow does not write; samples: (height, width, channels)."""
    height, width, _ = samples.shape
    data = SIGNATURE + header(width, height, depth, color_type, interlaced)
    if palette is not None:
        data += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparency is not None:
        data += chunk(b"tRNS", transparency)
    packed = zlib.compress(scan_lines(samples, depth, interlaced, filters), 9)
    step = -(-len(packed) // pieces)
    idat = b"".join(chunk(b"IDAT", packed[i:i + step]) for i in range(0, len(packed), step))
    return data + before + idat + after + end


def chunks(data):
    """[(kind, body)] of a whole PNG file."""
    found, at = [], len(SIGNATURE)
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at:at + 4])[0]
        found.append((data[at + 4:at + 8], data[at + 8:at + 8 + length]))
        at += 12 + length
    return found


def of_chunks(parts):
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in parts)


def animated_png(samples, box, seed=0):
    """An RGB image whose first frame (the image data) fills only box = (left, top, width, height), with a second frame."""
    left, top, width, height = box
    part = samples[:height, :width]
    frame = struct.pack(">IIIIHHBB", width, height, left, top, 1, 10, 0, 0)
    packed = zlib.compress(scan_lines(part, 8))
    return (SIGNATURE + header(samples.shape[1], samples.shape[0], 8, 2) +
            chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", struct.pack(">I", seed) + frame) +
            chunk(b"IDAT", packed) + chunk(b"fcTL", struct.pack(">I", seed + 1) + frame) +
            chunk(b"fdAT", struct.pack(">I", seed + 2) + packed) + chunk(b"IEND", b""))


# JPEG

def segments(data):
    """[(marker, bytes)] of a JPEG file: segments with their markers, scans with their entropy-coded data."""
    found, at = [], 0
    while at + 2 <= len(data):
        marker = data[at + 1]
        end = at + 2
        if marker not in (0xD8, 0xD9):
            end += struct.unpack(">H", data[end:end + 2])[0]
        if marker == 0xDA:
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        found.append((marker, data[at:end]))
        at = end
    return found


def of_segments(parts):
    return b"".join(part for _, part in parts)


def adobe(data, transform):
    """The JPEG with an Adobe marker of this transform (0: none, 1: YCbCr, 2: YCCK), or without one (None)."""
    parts = [part for part in segments(data) if part[0] != 0xEE]
    if transform is not None:
        marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
        parts.insert(1, (0xEE, marker))
    return of_segments(parts)


# WebP

def of_riff_parts(parts):
    """[(kind, bytes)] as a file."""
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for kind, part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_parts(data):
    found, at = [], 12
    while at + 8 <= len(data):
        length = struct.unpack("<I", data[at + 4:at + 8])[0]
        found.append((data[at:at + 4], data[at + 8:at + 8 + length]))
        at += 8 + length + length % 2
    return found


def animated_webp(image, canvas, offset):
    """A first frame that fills a part of the canvas."""
    def three(value):
        return struct.pack("<I", value)[:3]

    frame = (three(offset[0] // 2) + three(offset[1] // 2) + three(image.width - 1) + three(image.height - 1) +
             three(100) + b"\0" + saved(image, "WEBP", quality=80)[12:])
    size = b"\x02\0\0\0" + three(canvas[0] - 1) + three(canvas[1] - 1)
    return of_riff_parts([(b"VP8X", size), (b"ANIM", b"\0" * 6), (b"ANMF", frame), (b"ANMF", frame)])
