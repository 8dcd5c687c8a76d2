"""What attackers send, and how a gateway's memory and health are looked at from outside."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from kit import GatewayProcess, Stage

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
MEGABYTE = 1 << 20


def memory_mb(gateway: GatewayProcess) -> float:
    """What the process holds in memory now."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return _kilobytes(status, "VmRSS") / 1024


def peak_memory_mb(gateway: GatewayProcess) -> float:
    """The most that it ever held."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return _kilobytes(status, "VmHWM") / 1024


def _kilobytes(status: str, field: str) -> int:
    return int(next(line for line in status.splitlines() if line.startswith(field + ":")).split()[1])


def gzip_bomb(size: int) -> bytes:
    """A gzip of `size` zero bytes (a whole number of megabytes), made by packing one of them."""
    piece = bytes(MEGABYTE)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)  # after which nothing refers to what was before
    checksum, count = 0, size // MEGABYTE
    for _ in range(count):
        checksum = zlib.crc32(piece, checksum)
    head, end = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", packer.flush()
    return head + block * count + end + struct.pack("<II", checksum, size)


async def assert_serves(stage: Stage) -> None:
    """The next request, on a model that nobody has used, is served."""
    assert (await stage.post(stage.model().chat())).status == 200
