"""Reads event files of TensorBoard another way than event_file.py writes them: CRCs bit by bit, fields by wire type."""

import struct


def crc32c(data):
    """The remainder of the bits, each byte's lowest first, by the polynomial 0x1edc6f41, which here stands reversed."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def is_right(data, stored):
    """Whether the four bytes are the masked CRC of the data."""
    rotated = (struct.unpack("<I", stored)[0] - 0xA282EAD8) % 2**32
    return (rotated << 15 | rotated >> 17) % 2**32 == crc32c(data)


def messages(data):
    while data:
        head, (length,) = data[:8], struct.unpack("<Q", data[:8])
        message = data[12 : 12 + length]
        assert is_right(head, data[8:12]), "CRC of a length"
        assert is_right(message, data[12 + length : 16 + length]), "CRC of a message"
        yield message
        data = data[16 + length :]


def fields(message):
    """(number, value) of each field: an int of a varint, bytes of all others."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, message[at : at + size]
        at += size


def events(path):
    """(wall time, step, version, [(tag, number)]) of each event."""
    for message in messages(open(path, "rb").read()):
        found = dict(fields(message))
        values = [dict(fields(value)) for _, value in fields(found.get(5, b""))]
        yield (
            struct.unpack("<d", found[1])[0],
            found.get(2, 0),
            found.get(3),
            [(value[1].decode(), struct.unpack("<f", value[2])[0]) for value in values],
        )


def points(path):
    """(step, tag, number) of all events, sorted."""
    return sorted((step, tag, value) for _, step, _, scalars in events(path) for tag, value in scalars)
