"""Images from files or other slow sources: decoded once, in parallel, and kept in the cache as one array."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.fetch import array_digest
from advunlearn.options import UserError, in_one_line, option
from advunlearn.runtime.arrays import Labels
from advunlearn.runtime.progress import progress
from advunlearn.runtime.resources import cores, free_disk, size
from advunlearn.runtime.signals import halt_point
from advunlearn.storage.files import UnreadableFile, atomic_write, state_of_file
from advunlearn.storage.folders import delete_tree, make_folder, refuse_link, share
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

SCHEMA = 1  # raise it when images are decoded to other pixels: the cache then decodes them again
IN_MEMORY = 1 << 29  # bytes; a larger array stays on disk: in memory a run has two or three copies
AT_ONCE = 256  # images that are decoded before they are written
GRAY = ("1", "L")  # PIL's modes of images with one channel
LEVELS = np.arange(256, dtype=np.int64)


@dataclass
class Pictures(Dataset):
    """Base class of datasets whose images are decoded once and kept in the cache.

    Attributes:
        size: height and width in pixels. The shorter side of an image is scaled to this length, and the center is
            cropped; null leaves images as they are, and all must then have the same size.
        gray: whether images are grayscale (one channel) or RGB; null: grayscale if the first image is.
    """

    size: int | None = option(None, at_least=1)
    gray: bool | None = False

    def is_gray(self, first: Image) -> bool:
        """Return whether images have one channel, given the dataset's first image."""
        return first.mode in GRAY if self.gray is None else self.gray

    def fitted(self, picture: Image, *, gray: bool) -> Image:
        """Return an image in the size that the options give, grayscale or RGB, rotated as its EXIF data say.

        Transparency is dropped, as torchvision does.

        Raises:
            UserError: for more than 8 bits per channel; and with `gray=null`, for a color image after a grayscale one.
        """
        from PIL import Image, ImageOps

        if gray and self.gray is None and picture.mode not in GRAY:
            raise UserError("it has colors, unlike the first one; try dataset.gray=false")
        if picture.mode.startswith(("I", "F")):
            raise UserError(f"its pixels have more than 8 bits (mode {picture.mode})")
        if self.size is not None:
            picture.draft(None, (2 * self.size, 2 * self.size))  # a large JPEG is decoded at a fraction of its size
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "P":  # a palette may hold transparency, of which only RGBA knows
            picture = picture.convert("RGBA")
        picture = picture.convert("L" if gray else "RGB")
        if self.size is None or picture.size == (self.size, self.size):
            return picture
        return ImageOps.fit(picture, (self.size, self.size), Image.Resampling.BILINEAR)

    def shape_of(self, picture: Image) -> tuple[int, int, int]:
        """Return (channels, height, width) of a picture after `fitted`."""
        from PIL import ExifTags

        width, height = picture.size
        if picture.getexif().get(ExifTags.Base.Orientation, 1) > 4:  # rotated by 90 degrees
            width, height = height, width
        return (1 if self.is_gray(picture) else 3, *((height, width) if self.size is None else (self.size, self.size)))


@dataclass(frozen=True)
class Source:
    """Images that are slow to read.

    Attributes:
        folder: name of the folder in the cache, whose images of an older state are replaced.
        state: a text that changes whenever the images do.
        option: the option that selects the images, such as `dataset.root=photos`, for messages.
        names: of the images, for messages.
        read: returns the image at a position. It is called from several threads. All images must have the same size.
    """

    folder: str
    state: str
    option: str
    names: Sequence[str]
    read: Callable[[int], Image]


@dataclass(frozen=True)
class Kept:
    """Decoded images.

    Attributes:
        images: uint8, (n, height, width, channels); on disk if they are large.
        digest: SHA-256 of the images.
        moments: int64, (n, 2, channels), the sum and the sum of squares of each image's pixels.
    """

    images: NDArray[np.uint8]
    digest: str
    moments: NDArray[np.int64]

    def pool(self, labels: Labels, train_rows: int, classes: int, names: Sequence[str] = ()) -> Pool:
        """Return the images with their labels (n,); see `Pool`."""
        return Pool(self.images, labels, train_rows, classes, digest=self.digest, moments=self.moments, names=names)


def bytes_in_memory(count: int, shape: tuple[int, ...]) -> int:
    """Return the memory that each of so many images takes: 0 if `kept` leaves them on disk."""
    each = math.prod(shape)
    return 0 if count * each > IN_MEMORY else each


def item_of(parts: Sequence[Any], row: int) -> Any:
    """Return the item of a row number of the pool from the training part and, if there is one, the test part."""
    train_rows = len(parts[0])
    return parts[0][row] if row < train_rows else parts[1][row - train_rows]


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Raise a UserError in one line, `NAME cannot be read as an image (reason)`, for any error of an image library."""
    try:
        yield
    except Exception as error:  # PIL and others raise errors of many types for invalid bytes
        reason = error.reason if isinstance(error, UnreadableFile) else in_one_line(error)
        reason = "not an image" if type(error).__name__ == "UnidentifiedImageError" else reason  # with a memory address
        raise UserError(f"{name} cannot be read as an image ({reason})") from error


def kept(source: Source) -> Kept:
    """Return the images of a source, which are decoded unless the cache holds them.

    A process that is killed leaves an incomplete file, which the next process replaces.

    Raises:
        UserError: in one line, if an image cannot be read or has another size, or if the disk has too little space.
    """
    folder = cache_folder() / "data" / "decoded" / source.folder
    with claim(folder.with_name(f"{folder.name}.claim")):
        found = _read(folder, source.state)
        if found is None:
            refuse_link(folder)
            delete_tree(folder)
            make_folder(folder)
            _decode(folder, source)
            found = _read(folder, source.state)
        assert found is not None
        return found


def _files(folder: Path, state: str) -> tuple[Path, Path]:
    """Return the files of the images and of what is known of them; other versions of Pillow may decode other pixels."""
    import PIL

    name = digest_of(SCHEMA, PIL.__version__, state)
    return folder / f"{name}.npy", folder / f"{name}.npz"


def _read(folder: Path, state: str) -> Kept | None:
    """Return the images in the cache; None if they are of another state, incomplete, or damaged.

    Images that stay on disk are not read: they are complete if the file has the size and the time that were recorded.
    """
    path, about = _files(folder, state)
    try:
        with np.load(about, allow_pickle=False) as stored:
            digest, moments, written = str(stored["digest"]), stored["moments"], stored["written"].tolist()
        if written != _written(path):
            return None
        images = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and numpy raise errors of many types for invalid bytes
        logger.warning("%s is damaged (%s); the images are decoded again", folder, error)
        return None
    if images.nbytes > IN_MEMORY:
        return Kept(images, digest, moments)
    whole = np.load(path, allow_pickle=False)
    if array_digest(whole) != digest:
        logger.warning("%s is damaged; the images are decoded again", path)
        return None
    return Kept(whole, digest, moments)


def _written(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _decode(folder: Path, source: Source) -> None:
    path, about = _files(folder, source.state)
    count, first = len(source.names), _pixels(source, 0)[0]
    if count * first.nbytes > free_disk(folder):
        raise UserError(
            f"{folder}: {size(count * first.nbytes)} are needed for {count:,} decoded images, "
            f"{size(free_disk(folder))} are free (try another folder: ADVUNLEARN_CACHE=FOLDER)"
        )
    logger.info("decoding %s images of %dx%d pixels into %s", f"{count:,}", *first.shape[:2], folder)
    digest, moments = hashlib.sha256(), []
    with atomic_write(path) as temporary, temporary.open("wb") as file, ThreadPoolExecutor(cores()) as threads:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *first.shape)}
        npy.write_array_header_1_0(file, header)
        for start in progress(range(0, count, AT_ONCE), "decode"):
            halt_point()
            block = range(start, min(start + AT_ONCE, count))
            for pixels, each in threads.map(lambda position: _pixels(source, position, first.shape), block):
                file.write(pixels.data)
                digest.update(pixels.data)
                moments.append(each)
        share(temporary)
    with atomic_write(about) as temporary, temporary.open("wb") as file:
        np.savez(file, digest=digest.hexdigest(), moments=np.stack(moments), written=_written(path))
        share(temporary)


def _pixels(
    source: Source, position: int, shape: tuple[int, ...] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return an image (h, w, c) and its moments (2, c).

    Raises:
        UserError: in one line with the image's name, if it cannot be read, or has another shape.
    """
    name = f"{source.option}: {source.names[position]}"
    with readable(name):
        picture = source.read(position)
    array = np.asarray(picture)
    pixels: NDArray[np.uint8] = np.ascontiguousarray(array[..., None] if array.ndim == 2 else array)
    if shape is not None and pixels.shape != shape:
        sizes = [f"{height}x{width}" for height, width, _ in (pixels.shape, shape)]
        raise UserError(f"{name} has {sizes[0]} pixels, {source.names[0]} has {sizes[1]} (try dataset.size=224)")
    counts = np.array(picture.histogram(), np.int64).reshape(-1, 256)
    return pixels, np.stack([counts @ LEVELS, counts @ LEVELS**2])


def state_of(folder: Path) -> str:
    """Return a text that changes whenever a file below the folder does, or its path; see `state_of_file`."""
    files = (f"{top}/{name}" for top, _, names in os.walk(folder) for name in names)
    return "\n".join(sorted(f"{path}\0{state_of_file(path)}" for path in files))


def digest_of(*parts: Any) -> str:
    """Return 16 hexadecimal digits that identify these values."""
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:16]
