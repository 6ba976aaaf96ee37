"""`~key=values` in a sweep: an option that is set only for those runs whose parts have it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from omegaconf import OmegaConf

from advunlearn.config.composer import AUDITOR, Composer, single


def split_marked(words: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return the words without the mark of `~key=values`, and the keys of those that had it."""
    marked = {word.partition("=")[0].removeprefix("~") for word in words if word.startswith("~") and "=" in word}
    return [word.removeprefix("~") if "=" in word else word for word in words], marked


def distinct_runs(
    here: Composer, runs: Iterable[Sequence[str]], marked: Collection[str], problems: list[str]
) -> Iterator[list[str]]:
    """Yield the overrides of each run without the marked options that its parts lack; equal runs once.

    Args:
        here: the composer.
        runs: the overrides of each run.
        marked: the keys of the options that a part may lack.
        problems: gets a line for each marked option that the parts of every run lack.
    """
    seen: set[tuple[str, ...]] = set()
    used: set[str] = set()
    for run in runs:
        kept = _known_to_parts(here, run, marked)
        used.update(_key(word) for word in kept)
        if tuple(kept) not in seen:
            seen.add(tuple(kept))
            yield kept
    problems += [f"~{key}: no such option of any of these runs" for key in sorted(set(marked) - used)]


def _known_to_parts(here: Composer, run: Sequence[str], marked: Collection[str]) -> list[str]:
    """Return the overrides of a run that its parts know; the choice of an auditor is made before its options."""
    kept = [word for word in run if _key(word) not in marked]
    for word in sorted(set(run) - set(kept), key=lambda word: "." in _key(word).replace(AUDITOR, "")):
        if _has(here, kept, _key(word)):
            kept.append(word)
    return [word for word in run if word in kept]


def _has(here: Composer, words: Sequence[str], key: str) -> bool:
    """Return whether the config has the option; True if it cannot be composed, which is reported with the run."""
    composed = here.compose([single(word) for word in words], [])
    if composed is None:
        return True
    missing = object()
    return OmegaConf.select(composed.config, key.partition("@")[2] or key, default=missing) is not missing


def _key(word: str) -> str:
    return word.partition("=")[0]
