"""Parts of a downloaded dataset: small lossless files for a machine without network.

A part `NAME-I-of-N.zip` holds `part.json` and blocks. An array of images (n, h, w, c) is cut into lossless WebP
pictures of up to `BLOCK` images, stacked vertically; any other array is one `.npy` file, or several if it has more than
`CHUNK` bytes, as the bytes of a published archive have. Nothing in a part is trusted:
sizes are checked before anything is decoded, `part.json` has the SHA-256 of each block, and the arrays must have the
same digests as downloaded ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.fetch import Arrays, has_digest
from advunlearn.options import UserError, first_line
from advunlearn.runtime.progress import progress
from advunlearn.storage.files import atomic_write

FORMAT = 1
BLOCK = 500  # images
CHUNK = 4 << 20  # bytes
TALLEST = 16_383  # pixels of a WebP picture
ABOUT = "part.json"
_PART = re.compile(r"(?P<name>.+)-(?P<number>\d+)-of-(?P<parts>\d+)\.zip")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a constant date: the same arrays make the same bytes
# The errors for bad bytes. RuntimeError: a member with a password, an unknown compression (NotImplementedError), or
# JSON that is nested too deeply (RecursionError).
BAD_ZIP = (zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError)
BAD_PICTURE = (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError)
_SPARE = 4096  # bytes of a block's headers


@dataclass(frozen=True)
class Part:
    """A part: its file, and the contents of its `part.json`."""

    path: Path
    name: str
    number: int
    parts: int
    packing: str
    blocks: Mapping[str, str]


def pack(name: str, arrays: Arrays, folder: Path, part_size: int) -> list[Path]:
    """Write the arrays as parts of at most `part_size` bytes and return their paths.

    Raises:
        UserError: in one line, if a block is larger than a part, or the folder holds other parts.
    """
    blocks = encode(arrays)
    groups = list(_grouped(blocks, part_size))
    digests = {block: hashlib.sha256(content).hexdigest() for block, content in blocks.items()}
    packing = hashlib.sha256(json.dumps([part_size, digests], sort_keys=True).encode()).hexdigest()
    paths = [folder / f"{name}-{number}-of-{len(groups)}.zip" for number in range(1, len(groups) + 1)]
    others = {path for path in folder.glob("*.zip")} - set(paths)
    if others:
        raise UserError(f"{min(others)} is in the way; choose an empty folder")
    for number, (path, group) in enumerate(zip(paths, groups, strict=True), 1):
        about = {"format": FORMAT, "name": name, "number": number, "parts": len(groups), "packing": packing}
        about["blocks"] = {block: digests[block] for block in group}
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(zipfile.ZipInfo(ABOUT, _EPOCH), json.dumps(about, indent=1))
            for block in group:
                archive.writestr(zipfile.ZipInfo(block, _EPOCH), blocks[block])
    return paths


def encode(arrays: Arrays) -> dict[str, bytes]:
    """Return the arrays' blocks by name, in order, as the bytes of files."""
    tasks = {}
    for name, array in arrays.items():
        if array.ndim == 4:
            step = min(BLOCK, TALLEST // array.shape[1])
            for start in range(0, len(array), step):
                tasks[f"{name}_{start:06d}.webp"] = partial(_picture, array[start : start + step])
        elif array.nbytes <= CHUNK:
            tasks[f"{name}.npy"] = partial(_file, array)
        else:
            step = max(1, CHUNK * len(array) // array.nbytes)
            for start in range(0, len(array), step):
                tasks[f"{name}_{start:012d}.npy"] = partial(_file, array[start : start + step])
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow encodes without Python's lock
        futures = {name: pool.submit(task) for name, task in tasks.items()}
        return {name: future.result() for name, future in progress(futures.items(), "pack", len(futures))}


def find(folder: Path) -> dict[str, list[Part]]:
    """Return the parts in a folder by the dataset's name, every one of them, in order.

    Raises:
        UserError: in one line with the file's name, if a zip file is not a complete part, or parts are missing.
    """
    found: dict[str, list[Part]] = {}
    for path in sorted(folder.glob("*.zip")):
        part = _read_about(path)
        found.setdefault(part.name, []).append(part)
    if not found:
        raise UserError(f"{folder} holds no parts (files such as cifar10-1-of-2.zip)")
    for name, parts in found.items():
        first = parts[0]
        for part in parts[1:]:
            if (part.packing, part.parts) != (first.packing, first.parts):
                raise UserError(f"{part.path} and {first.path} were packed differently; keep the parts of one packing")
        numbers = [part.number for part in parts]
        missing = sorted(set(range(1, first.parts + 1)) - set(numbers))
        if missing:
            raise UserError(f"{folder}: {name}-{missing[0]}-of-{first.parts}.zip is missing")
        if len(parts) > first.parts:
            raise UserError(
                f"{folder} holds a part of {name} twice: {', '.join(str(part.path.name) for part in parts)}"
            )
    return found


def unpack(parts: Sequence[Part], digests: Mapping[str, str], info: DatasetInfo, fetched_bytes: int = 0) -> Arrays:
    """Return the arrays of a dataset from all of its parts.

    Args:
        digests: of each array; see `has_digest`.
        info: of the dataset, which bounds what is decoded.
        fetched_bytes: see `Dataset.fetched_bytes`; it bounds what is read likewise.

    Raises:
        UserError: in one line with the file's name, if a part is invalid.
    """
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in digests}
    room = info.train + info.test
    bytes_left, largest = 2 * fetched_bytes + 16 * room + _SPARE, _largest(info, fetched_bytes)
    where = {block: part for part in parts for block in part.blocks}
    archives = {part.path: zipfile.ZipFile(part.path) for part in parts}
    try:
        for block in progress(sorted(where), "unpack"):
            path = where[block].path
            array = re.sub(r"(_\d+)?\.\w+$", "", block)
            if array not in pieces:
                raise UserError(f"{path}: {block} belongs to no array of this dataset")
            content = _read(archives[path], path, block, where[block].blocks[block], largest)
            piece = _decode(content, block, info, path)
            if block.endswith(".webp"):
                room -= len(piece)
            else:
                bytes_left -= piece.nbytes
            if min(room, bytes_left) < 0:
                raise UserError(f"{path}: {block} is more than the {info.train + info.test:,} images of this dataset")
            pieces[array].append(piece)
    finally:
        for archive in archives.values():
            archive.close()
    arrays = {name: np.concatenate(found) if found else np.array([]) for name, found in pieces.items()}
    wrong = [name for name, digest in digests.items() if not has_digest(arrays[name], digest)]
    if wrong:
        raise UserError(f"{parts[0].path.parent}: {', '.join(wrong)} are not those of {parts[0].name}")
    return arrays


def _picture(images: NDArray[np.uint8]) -> bytes:
    """Return images (n, h, w, 1 or 3) as one WebP picture."""
    count, height, width, channels = images.shape
    tall = np.broadcast_to(images, (count, height, width, 3)) if channels == 1 else images
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(tall.reshape(count * height, width, 3)))
    picture.save(file, "WEBP", lossless=True, quality=75, method=4, exact=True)
    return file.getvalue()


def _file(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _grouped(blocks: Mapping[str, bytes], part_size: int) -> Iterator[list[str]]:
    """Yield the names of the blocks of each part; what surrounds a block in a zip file is counted in."""
    group, size = list[str](), _SPARE
    for name, content in blocks.items():
        needed = len(content) + 4 * len(name) + 400
        if _SPARE + needed > part_size:
            raise UserError(f"--part-size is too small: {name} alone takes {len(content) / 1e6:.1f} MB (try 50MB)")
        if size + needed > part_size:
            yield group
            group, size = [], _SPARE
        group.append(name)
        size += needed
    yield group


def _read_about(path: Path) -> Part:
    named = _PART.fullmatch(path.name)
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(ABOUT).file_size > 1 << 20:
                raise UserError("part.json is too large")
            about = json.loads(archive.read(ABOUT))
            if about["format"] != FORMAT:
                raise UserError(f"its format is {about['format']}, this version reads {FORMAT}")
            number, parts = int(about["number"]), int(about["parts"])
            part = Part(path, str(about["name"]), number, parts, str(about["packing"]), dict(about["blocks"]))
            if {info.filename for info in archive.infolist()} != {ABOUT, *part.blocks}:
                raise UserError("its files are not those that part.json names")
    except BAD_ZIP as error:
        raise UserError(f"{path} is damaged or not a zip file ({error})") from error
    except KeyError as error:
        raise UserError(f"{path} is not a part of a dataset (no {str(error).strip(chr(34))})") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not a part of a dataset ({error})") from error
    if named is None or (named["name"], int(named["number"]), int(named["parts"])) != (part.name, number, parts):
        raise UserError(f"{path} must have the name in its part.json: {part.name}-{number}-of-{parts}.zip")
    return part


def _largest(info: DatasetInfo, fetched_bytes: int) -> int:
    """Return the bytes that a block can take: those of its images or labels, or a piece of a published file."""
    pixels = math.prod(info.image[1:]) if info.images else 0
    return max(8 * BLOCK * 3 * pixels, 8 * (info.train + info.test), min(CHUNK, 2 * fetched_bytes)) + _SPARE


def _read(archive: zipfile.ZipFile, path: Path, block: str, digest: str, largest: int) -> bytes:
    """Return the bytes of a block, at most `largest`."""
    if archive.getinfo(block).file_size > largest:
        raise UserError(f"{path}: {block} is larger than it can be")
    try:
        content = archive.read(block)
    except BAD_ZIP as error:
        raise UserError(f"{path} is damaged ({block}: {error})") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path} is damaged ({block} has another SHA-256)")
    return content


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of an `.npy` file; numpy alone would reserve as much memory as its header asks for."""
    file = io.BytesIO(content)
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    if math.prod(shape) * kind.itemsize != len(content) - file.tell():
        raise UserError("its header does not fit its size")
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _decode(content: bytes, block: str, info: DatasetInfo, path: Path) -> NDArray[Any]:
    channels, height, width = info.image
    try:
        if not block.endswith(".webp"):
            return _array(content)
        with Image.open(io.BytesIO(content), formats=("WEBP",)) as picture:  # the size is known before it is decoded
            if picture.width != width or picture.height % height or picture.height > TALLEST:
                raise UserError(f"a picture of {picture.height}x{picture.width} pixels, not images of {height}x{width}")
            pixels = np.asarray(picture.convert("RGB"))
    except BAD_PICTURE as error:
        raise UserError(f"{path}: {block} cannot be read ({first_line(error)})") from error
    return pixels.reshape(-1, height, width, 3)[..., :channels]
