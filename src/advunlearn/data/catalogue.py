"""The datasets that `advunlearn data` speaks of."""

from __future__ import annotations

from advunlearn.data.cifar10 import DIGESTS, Cifar10
from advunlearn.data.dataset import Dataset
from advunlearn.data.digits import Digits
from advunlearn.data.fetch import cached_size

DATASETS: dict[str, type[Dataset]] = {"digits": Digits, "cifar10": Cifar10}


def status(name: str) -> str:
    """Say where a dataset is."""
    if name == "digits":
        return "embedded in scikit-learn"
    size = cached_size(name, DIGESTS)
    return "not fetched yet" if size is None else f"in the cache, {size / 1e6:.0f} MB"
