"""Writes event files of TensorBoard without TensorBoard.

A file is a sequence of records: uint64 length, masked CRC-32C of these 8 bytes, a message, masked CRC-32C of the message; all
little-endian. mask(crc) = (crc rotated right by 15 bits) + 0xa282ead8. A message is an Event of protocol buffers:
  Event    1 wall_time (double, seconds since 1970), 2 step (int64), 3 file_version (string), 5 summary (Summary)
  Summary  1 value (repeated Value);  Value: 1 tag (string), 2 simple_value (float)
The first event of a file has the version "brain.Event:2".
"""

from __future__ import annotations

import struct

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types of protocol buffers


def _crc_table():
    """CRC-32C (Castagnoli) of each byte: the polynomial 0x1edc6f41 with its bits reversed."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(message):
    """A message as it stands in a file."""
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked_crc(length)) + message + struct.pack("<I", masked_crc(message))


def varint(value):
    """Seven bits a byte, the lowest first; the eighth bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number, wire_type, payload):
    return varint(number << 3 | wire_type) + payload


def _bytes_field(number, payload):
    return _field(number, BYTES, varint(len(payload)) + payload)


def first_event(wall_time):
    """The message that says what the file is."""
    return _field(1, EIGHT_BYTES, struct.pack("<d", wall_time)) + _bytes_field(3, b"brain.Event:2")


def scalars_event(wall_time, step, scalars):
    """The message of the points at one step; scalars: pairs of tag and number, which becomes fp32."""
    summary = b"".join(
        _bytes_field(1, _bytes_field(1, tag.encode()) + _field(2, FOUR_BYTES, float32(value))) for tag, value in scalars
    )
    return _field(1, EIGHT_BYTES, struct.pack("<d", wall_time)) + _field(2, VARINT, varint(step)) + _bytes_field(5, summary)


def float32(value):
    """The four bytes of a number; beyond fp32 it is infinite."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))
