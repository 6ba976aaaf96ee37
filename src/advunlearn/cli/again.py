"""Answer `advunlearn run` from the finished run of the same command, without composing, importing or computing."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from advunlearn.runtime.terminal import remark

RUN_DIR = "hydra.run.dir="
# Their results depend on more than the words, the files that these name, and this package; or they show how it runs.
OUTSIDE = (
    "hydra",
    "dataset=huggingface",
    "dataset=python",
    "dataset=torchvision",
    "model.pretrained=",
    "tensorboard=",
    "profile=",
    "logger",
)
PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
KEPT = ("choices", "seed", "device", "device_name", "threads", "splits", "dataset_checksum", "source", "original")


def command_key(words: Sequence[str]) -> dict[str, Any] | None:
    """Return what determines the result of `run` with these words, as plain data, without reading it.

    The files that the words name count by path, size and times, as in `make`. None if something else counts as well: a
    flag, the user's own code, an installed package of parts, or data whose files no word names.
    """
    from advunlearn.config.part_files import plugin_folders
    from advunlearn.storage.paths import config_folder

    options = [word for word in words if not word.startswith(RUN_DIR)]
    if plugin_folders() or any(word.startswith("-") or word.lstrip("+~").startswith(OUTSIDE) for word in options):
        return None
    named = {value: _named(value) for word in options for value in _values(word)}
    if None in named.values():
        return None
    package = Path(__file__).parents[1]
    return {
        "words": options,
        "files": named,
        "code": _digest([*package.rglob("*.py"), *config_folder().rglob("*.yaml")]),
        "versions": [platform.python_version(), *map(_version, PACKAGES)],
        "machine": [
            platform.node(),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            *_gpus(),
        ],
    }


def remember(key: dict[str, Any] | None, folder: Path) -> None:
    """Note that the command with this key, if it has one, is finished in this folder."""
    from advunlearn.runs import reuse
    from advunlearn.storage.store import Store

    if key is not None:
        reuse.note(Store(), key, folder)


def answer(words: Sequence[str], key: dict[str, Any] | None) -> int | None:
    """Show the finished run of the same command, in a folder of its own, and return the exit status; None without one.

    Raises:
        UserError: if the folder that the words name holds a run already.
    """
    if key is None:
        return None
    from advunlearn.cli.one_run import show
    from advunlearn.config.yaml_files import read_yaml
    from advunlearn.runs import reuse
    from advunlearn.runs.manifest import Manifest
    from advunlearn.runs.state import config_of, read_manifest
    from advunlearn.storage.store import Store

    earlier = reuse.find(Store(), key)
    if earlier is None:
        return None
    found = read_manifest(earlier) or {}
    about = {"overrides": key["words"], **{name: found[name] for name in KEPT if name in found}}
    folder = _folder(words, about["choices"])
    with Manifest(folder, about, config=read_yaml(config_of(earlier))) as manifest:
        metrics = reuse.adopt(manifest, earlier)
    remark(f"the same command is finished in {earlier}, and not done again\n")
    show(folder, metrics)
    return 0


def _folder(words: Sequence[str], choices: Mapping[str, str]) -> Path:
    """Return the folder that the last `hydra.run.dir=...` names, or a new one, as that of any run."""
    named = [word for word in words if word.startswith(RUN_DIR)]
    if named:
        from advunlearn.config.compose import named_folder

        return named_folder(named[-1], [word for word in words if word not in named])
    from advunlearn.storage.paths import new_output_folder

    return new_output_folder(f"{choices['dataset']}/{choices['unlearner']}")


def _values(word: str) -> list[str]:
    """Return the value of an override; of a list of names or numbers, its elements."""
    value = word.partition("=")[2]
    return value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]


def _named(value: str) -> list[Any] | None:
    """Return what a value stands for: nothing but itself, or a file or folder; None if it may be more, such as code."""
    path = Path(value.strip("'\"")).expanduser()
    if value and path.exists():
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        linked = any(each.is_symlink() and each.is_dir() for each in files)  # whose files `rglob` leaves out
        return None if linked else [_signature(each) for each in files]
    return [] if re.fullmatch(r"\w*|[-+]?[\d.]+(e[-+]?\d+)?", value) else None


def _signature(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Return the NVIDIA GPUs of this machine, by device file: `device=auto` uses one if there is any."""
    return sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))
