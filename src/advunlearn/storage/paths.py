"""Where configs are found, and where data and artefacts are kept."""

from __future__ import annotations

import datetime
import os
import secrets
from pathlib import Path


def config_folder() -> Path:
    """Return the folder of the shipped configs: inside the package if installed from a wheel, else the checkout's.

    Raises:
        FileNotFoundError: if neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError("advunlearn was installed without its conf/ folder; reinstall it")


def new_output_folder(kind: str) -> Path:
    """Return the path of a new folder under `outputs/KIND`, named by the time and four random letters."""
    return Path("outputs") / kind / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"


def cache_folder() -> Path:
    """Return where data and artefacts are kept.

    That is `$ADVUNLEARN_CACHE`, else `$XDG_CACHE_HOME/advunlearn`, else `~/.cache/advunlearn`.
    """
    if chosen := os.environ.get("ADVUNLEARN_CACHE"):
        return Path(chosen).expanduser()
    common = Path(os.environ.get("XDG_CACHE_HOME", ""))  # by the XDG specification, ignored unless absolute
    return (common if common.is_absolute() else Path.home() / ".cache") / "advunlearn"
