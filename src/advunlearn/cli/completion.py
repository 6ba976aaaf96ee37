"""`advunlearn completion`: what the shell completes, read from the YAML files of the parts, without Hydra and torch."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from advunlearn.cli.parser import parser_of
from advunlearn.runtime.terminal import FLAGS

EPILOG = """\
Add the line of your shell to ~/.bashrc or ~/.zshrc:

  eval "$(advunlearn completion bash)"
  eval "$(advunlearn completion zsh)"
"""
# A shell inserts the answers; a whole word ends with a space. Without an answer, it completes the names of files.
SCRIPTS = {
    "bash": """\
_advunlearn() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" completion words "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    # Readline takes = and : for the end of a word, and replaces only what follows them.
    local typed=${COMP_LINE:0:COMP_POINT} before
    typed=${typed##* }
    before=${typed%"${typed##*[=:]}"}
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -o default -F _advunlearn advunlearn
""",
    "zsh": """\
_advunlearn() {
    local -a found
    found=("${(@f)$(${words[1]} completion words "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -Q -S '' -- "${found[@]}"; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _advunlearn advunlearn
""",
}
# The verbs that take overrides, and their flags.
OVERRIDES = {
    "run": ("-m", "--cfg", "--info", "--config-dir"),
    "unlearn": ("-m", "--cfg", "--info", "--config-dir"),
    "audit": ("--folder", "--config-dir"),
    "compare": ("--out", "--config-dir"),
    "tune": ("--trials", "--limit", "--out", "--config-dir"),
    "submit": (
        "--config-dir",
        "--partition",
        "--account",
        "--qos",
        "--time",
        "--mem",
        "--name",
        "--cpus",
        "--gpus",
        "--parallel",
        "--signal-seconds",
        "--requeues",
        "--shadow-shards",
        "--setup",
        "--sbatch",
        "--requeue-cancelled",
        "--dir",
        "--dry-run",
        "--retry",
    ),
    "check": ("-m", "--config-dir"),
}
ACTIONS = {
    "data": ("ls", "fetch", "pack", "unpack"),
    "store": ("ls", "verify", "prune"),
    "completion": tuple(SCRIPTS),
}


def main(arguments: list[str]) -> int:
    """`advunlearn completion`: print a script that completes verbs, parts and options in bash or zsh."""
    parser = parser_of("completion", main.__doc__, EPILOG)
    parser.add_argument("shell", choices=(*SCRIPTS, "words"), help="the shell; `words` is what its script calls")
    parser.add_argument("line", nargs="?", default="", help="for `words`: the line as far as it is typed")
    options = parser.parse_args(arguments)
    if options.shell in SCRIPTS:
        sys.stdout.write(SCRIPTS[options.shell])
    else:
        sys.stdout.writelines(f"{word}\n" for word in completed(options.line))
    return 0


def completed(line: str) -> list[str]:
    """Return what the last word of a line may become, of a key up to the next point; a whole word ends with a space."""
    *words, last = line.split(" ")
    words = [word for word in words[1:] if word and word not in FLAGS]
    found = [word for word in _candidates(words, last) if word.startswith(last)]
    return sorted(
        {re.sub(rf"^({re.escape(last)}[^.=]*\.).*", r"\1", word) if "=" not in last else word for word in found}
    )


def _candidates(words: Sequence[str], last: str) -> Iterator[str]:
    """Yield what may follow these words, whether or not it begins as the last word does."""
    from advunlearn.cli import VERBS
    from advunlearn.config import part_files

    if not words:
        yield from (f"{verb} " for verb in (*VERBS, "--help", "--version"))
        return
    verb, *rest = words
    if last.startswith("-"):
        yield from (f"{flag} " for flag in ("--help", *FLAGS, *OVERRIDES.get(verb, ())))
    elif verb in ACTIONS and not rest:
        yield from (f"{action} " for action in ACTIONS[verb])
    elif verb in ("list", "describe") and not rest:
        yield from (f"{group} " for group in part_files.groups())
    elif verb == "describe" and len(rest) == 1:
        yield from (f"{name} " for name in part_files.files(rest[0], part_files.plugin_folders()))
    elif verb in OVERRIDES:
        yield from _overrides(rest, last)


def _overrides(words: Sequence[str], last: str) -> Iterator[str]:
    """Yield the values of a group, each after those that are typed already, or groups and keys."""
    from advunlearn.config import part_files
    from advunlearn.storage.paths import config_folder

    folders = [*_own_folder(words), *part_files.plugin_folders()]
    group, equals, value = last.partition("=")
    if equals:
        before = value[: max(value.rfind(sign) for sign in ",[") + 1]
        end = "" if before else " "  # a list continues
        yield from (f"{group}={before}{name}{end}" for name in part_files.files(group, folders))
        return
    yield from (f"{name}=" for name in part_files.groups())
    yield from (f"{key}=" for key in _keys(config_folder() / "config.yaml"))
    chosen = {word.partition("=")[0]: word.partition("=")[2].strip("[]").split(",") for word in words}
    for name in (*part_files.GROUPS, "auditor", *part_files.SEVERAL):
        parts = part_files.files(name, folders)
        for part in chosen.get(name) or _default(name):
            prefix = f"{name}.{part}" if name in part_files.SEVERAL else name
            yield from (f"{prefix}.{key}=" for key in (_keys(parts[part]) if part in parts else ()))


def _own_folder(words: Sequence[str]) -> list[Path]:
    """Return the folder of `--config-dir` in these words, as a list."""
    typed = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    typed += [after for flag, after in itertools.pairwise(words) if flag in ("--config-dir", "-cd")]
    return [Path(folder).expanduser().absolute() for folder in typed[:1]]


def _default(group: str) -> list[str]:
    """Return the parts of a group that a run has by default."""
    from advunlearn.storage.paths import config_folder

    if group == "auditor":
        return ["svm"]
    text = (config_folder() / "config.yaml").read_text(encoding="utf-8")
    found = re.search(rf"^  - {group}: (.+)$", text, re.MULTILINE)
    return found[1].strip("[]").split(", ") if found else []


def _keys(path: Path) -> Iterator[str]:
    """Yield the options that a file sets, of two levels, without Hydra's own."""
    parent = ""
    for indent, key, value in re.findall(
        r"^( {2})?([a-z]\w*): *([^#\n]*)", path.read_text(encoding="utf-8"), re.MULTILINE
    ):
        parent = parent if indent else key
        if parent not in ("defaults", "hydra") and value.strip():
            yield f"{parent}.{key}" if indent else key
