"""Folders that several processes and users change at the same time, and that may hold foreign files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from advunlearn.options import UserError


def make_folder(folder: Path) -> None:
    """Make a folder that all users of a cache need, and its parents, unless they exist.

    In a folder with the set-group-ID bit, which marks one that a group shares, a new folder gets the mode of its
    parent, independent of the umask; elsewhere the umask decides.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process was first
        folder.mkdir()
        share(folder)


def share(path: Path) -> None:
    """Give a new folder or file the mode of the shared folder that it is in; a file is never executable."""
    mode = path.parent.stat().st_mode
    if mode & stat.S_ISGID:
        path.chmod(stat.S_IMODE(mode) if path.is_dir() else mode & 0o666)


def refuse_link(path: Path) -> None:
    """Raise a UserError if a path of the store is a symbolic link, through which files elsewhere would be changed."""
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link, which the store does not follow; remove it (rm {path})")


def names_in(folder: Path, pattern: str) -> list[str]:
    """Return the sorted names in a folder that match a pattern; empty if the folder does not exist."""
    try:
        return sorted(name for name in os.listdir(folder) if re.fullmatch(pattern, name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def below(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of a path and of everything below it; symbolic links are not followed.

    Entries that are deleted during the walk, or may not be read, are left out.
    """
    with contextlib.suppress(OSError):
        yield path.lstat()
    for top, folders, files in os.walk(path) if not path.is_symlink() else ():
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(top, name))


def folder_size(path: Path) -> int:
    """Return the bytes of the files below a folder, or of one file; symbolic links are not followed."""
    return sum(status.st_size for status in below(path) if stat.S_ISREG(status.st_mode))


def delete_tree(path: Path) -> None:
    """Delete a folder, a file, or a symbolic link itself; what this user may not delete stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.unlink()


def owner(path: Path) -> str:
    """Return the name of the user to whom a path belongs."""
    with contextlib.suppress(OSError, KeyError):  # deleted, or a user that this machine does not know
        return path.owner()
    return "another user"
