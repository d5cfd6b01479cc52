"""The files that the demo's customers send: a picture, and a voice note."""

import struct
import zlib

_SCALE = 20
_COLOURS = {
    ".": (246, 236, 219),
    "f": (240, 160, 40),
    "c": (90, 150, 200),
    "w": (255, 252, 246),
    "p": (228, 120, 150),
    "b": (150, 95, 55),
    "t": (120, 130, 135),
}
_CAKE = """
.................
....f...f...f....
....c...c...c....
....c...c...c....
...wwwwwwwwwww...
..wwwwwwwwwwwww..
..wpwwpwwwpwwpw..
..bbbbbbbbbbbbb..
..ppppppppppppp..
..bbbbbbbbbbbbb..
..bbbbbbbbbbbbb..
.ttttttttttttttt.
.................
"""


def picture() -> bytes:
    """A PNG of a birthday cake, drawn coarsely."""
    rows = [[_COLOURS[dot] for dot in line] for line in _CAKE.split()]
    lines = [
        b"\0" + b"".join(bytes(colour) * _SCALE for colour in row)
        for row in rows
        for _ in range(_SCALE)
    ]
    width, height = len(rows[0]) * _SCALE, len(lines)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(b"".join(lines), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# Opus in Ogg, RFC 7845 and RFC 3533.
_RATE = 48_000
_FRAME = 960
_FRAMES = 50
# CELT, fullband, 20 ms, mono: what Opus makes of silence.
_SILENCE = b"\xf8\xff\xfe"
_SERIAL = 1


def voice_note() -> bytes:
    """A second of silence, as phones record it: OpenAI's double is told what it says."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, _RATE, 0, 0)
    vendor = b"replyd"
    tags = b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
    return b"".join(
        (
            _page(0, [head], kind=2),
            _page(1, [tags]),
            _page(2, [_SILENCE] * _FRAMES, kind=4, position=_FRAME * _FRAMES),
        )
    )


def _page(number: int, packets: list[bytes], *, kind: int = 0, position: int = 0) -> bytes:
    """`kind`: 2 for the first page, 4 for the last. Packets are shorter than 255 bytes."""
    start = struct.pack("<4sBBqII", b"OggS", 0, kind, position, _SERIAL, number)
    end = bytes([len(packets), *map(len, packets)]) + b"".join(packets)
    checksum = _crc(start + bytes(4) + end)
    return start + struct.pack("<I", checksum) + end


def _crc(data: bytes) -> int:
    """Ogg's own: not reflected, from zero."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
