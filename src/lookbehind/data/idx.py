"""The IDX format of the MNIST family: big-endian sizes, then bytes, all gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.errors import DataError

LIMIT = 1 << 30  # bytes; ten times what any published file of the family holds
UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> Tensor:
    """Read a gzipped IDX file of unsigned bytes, not a byte more than its header promises.

    Raises:
        DataError: if the file is missing, damaged, or holds something else.

    """
    try:
        with gzip.open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 1 <= magic[3] <= 4:
                raise DataError(f"{path} is no IDX file of bytes: it begins with {magic.hex() or 'nothing'}")
            shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
            promised = math.prod(shape)
            if promised > LIMIT:
                raise DataError(f"{path} promises {promised:,} bytes, more than the {LIMIT:,} that are allowed")
            content = bytearray(file.read(promised + 1))  # one more reveals a longer file, and checks gzip's own sum
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path} is missing, truncated or damaged ({error})") from error
    if len(content) != promised:
        holds = "more" if len(content) > promised else f"{len(content):,}"
        raise DataError(f"{path} promises {promised:,} bytes and holds {holds}")
    if not promised:
        raise DataError(f"{path} is empty: its sizes are {shape}")
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)
