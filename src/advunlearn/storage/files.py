"""Files written whole or not at all, and the system's errors with their file's name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import reprlib
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Literal,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from advunlearn.options import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

LARGEST_JSON = 1 << 25  # bytes of a manifest or of metrics; a thousandth is usual
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk, and of a user's share of it


class UnreadableFile(UserError):
    """A file that is missing, damaged, or not what this version writes.

    Attributes:
        reason: the message without the path.
        other_version: whether the file is whole, but another version of advunlearn wrote it.
    """

    def __init__(self, path: Path, reason: str, *, other_version: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason
        self.other_version = other_version


@contextlib.contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Let no error of the system pass without its number and a file's name, which numpy and safetensors leave out."""
    from safetensors import SafetensorError  # metrics are read without it

    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number is None:
            found = re.search(r"os error (\d+)|requested and \d+ written", str(error))  # the latter: a disk took a part
            number = int(found[1] or errno.ENOSPC) if found else None
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it is synced and renamed only if nothing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with system_errors(path):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; a named pipe or a device is refused, which could block forever or never end.

    Raises:
        UnreadableFile: if it is missing, cannot be read, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for a writer
    except (OSError, ValueError) as error:  # the latter: a name with a zero byte
        raise UnreadableFile(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableFile(path, "not a regular file")
    return os.fdopen(descriptor, "rb")


def state_of_file(path: str | Path) -> str:
    """Return a text that changes whenever the file does: its size and its times; empty if the file cannot be found.

    The second time is that of the last change of the file or of its name. No program can set it, so a file that is
    replaced by one with the size and the modification time of the old one is noticed.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reported when the file is read; the latter: a name with a zero byte
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def read_regular(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes.

    Raises:
        UnreadableFile: see `open_regular`; if it is larger; and if the disk cannot read it.
    """
    with open_regular(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise UnreadableFile(path, error.strerror or str(error)) from error
    if len(content) > most:
        raise UnreadableFile(path, f"larger than {most / (1 << 20):.10g} MiB")
    return content


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the mode that any other new file gets: safetensors itself always writes 0600."""
    from safetensors.torch import save_file  # imports torch, which takes seconds

    with system_errors(path):
        path.touch()
        mode = stat.S_IMODE(path.stat().st_mode)
        save_file(dict(tensors), path, metadata=about)
        path.chmod(mode)


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, whole or not at all; NaN and infinities are refused."""
    with atomic_write(path) as temporary:
        dump_json(temporary, data)


def dump_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, without a temporary file and without sync: `path` is part of a draft."""
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, shape: type[T], *, optional: bool = False) -> T:
    """Return the contents of a JSON file after a check that they are the `TypedDict` that is expected.

    Checked are required keys and the types of their values; of a dict whose keys are a `Literal`, that it has all of
    them. Not checked are optional keys, unless `optional`, and the elements of lists. Other keys are allowed.

    Raises:
        UnreadableFile: if the file cannot be read, is larger than `LARGEST_JSON`, is not JSON, or has not this shape.
    """
    content = read_regular(path, LARGEST_JSON)
    try:
        found: Any = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # neither JSON nor UTF-8, or nested too deeply
        raise UnreadableFile(path, f"not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(path, f"must hold a JSON object, got {reprlib.repr(found)}")
    try:
        _check(found, shape, optional)
    except TypeError as error:
        reason = f"made by another version of advunlearn, {error}"
        raise UnreadableFile(path, reason, other_version=True) from error
    return cast(T, found)


def _check(value: Any, shape: Any, optional: bool, where: str = "") -> None:
    """Raise a TypeError, in words, at the first place where data from JSON are not of this shape."""
    if get_origin(shape) is UnionType:
        if value is None:
            return
        (shape,) = (each for each in get_args(shape) if each is not NoneType)
    if get_origin(shape) is Literal:
        fits = value in get_args(shape)
    elif is_typeddict(shape):
        fits = isinstance(value, dict)
    elif shape is Any:
        fits = True
    else:
        fits = isinstance(value, (int, float) if shape is float else get_origin(shape) or shape)
    if not fits:
        raise TypeError(f"with {where} = {reprlib.repr(value)}")
    for key, inner in _keys(value, shape, optional):
        path = f"{where}.{key}" if where else key
        if key in value:
            _check(value[key], inner, optional, path)
        elif key not in getattr(shape, "__optional_keys__", ()):
            raise TypeError(f"without '{path}'")


def _keys(value: Any, shape: Any, optional: bool) -> Iterable[tuple[str, Any]]:
    """Return the keys of a dict of this shape that are to be checked, each with the shape of its value."""
    if is_typeddict(shape):
        return [(key, hint) for key, hint in _hints(shape).items() if optional or key in shape.__required_keys__]
    if get_origin(shape) is dict:
        keys, hint = get_args(shape)
        return [(key, hint) for key in dict.fromkeys([*get_args(keys), *value])]
    return []


_hints = cache(get_type_hints)  # slow, and asked for every attack of every run


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with system_errors(path), path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until the disk has what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
