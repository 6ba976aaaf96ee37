"""The Python API inside another program: it depends on nothing that this has set, and leaves all as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import OmegaConf
from torch import nn

import advunlearn
from advunlearn.config.composer import version_base
from tests.test_api import blobs, model

PARTS = {"retain": blobs(51, 0), "forget": blobs(30, 1), "audit": blobs(30, 2)}
TEST = blobs(60, 3)


def found(network: nn.Module) -> list[object]:
    """Return the results of the API: weights of the unlearned model, and an audit of it."""
    unlearned = advunlearn.unlearn(network, **PARTS, epochs=2)
    audited = advunlearn.audit(unlearned, forget=PARTS["forget"], test=TEST)
    return [*(each.tolist() for each in unlearned.network.parameters()), audited]


def test_a_program_with_its_own_hydra_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path), **version_base()):
        before, base = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
        advunlearn.audit(model(), forget=PARTS["forget"], test=TEST)
        with pytest.raises(ValueError, match="no such option"):
            advunlearn.unlearn(model(), **PARTS, method="sgg")
        assert GlobalHydra.instance().hydra is before
        assert VersionBase.instance().getbase() == base
        assert compose("mine").answer == 42


def test_a_program_without_hydra_has_none_afterwards() -> None:
    GlobalHydra.instance().clear()
    advunlearn.audit(model(), forget=PARTS["forget"], test=TEST)
    assert not GlobalHydra.instance().is_initialized()


def test_a_programs_own_resolver_of_the_name_that_runs_use_stays() -> None:
    name = "register_new_resolver" if hasattr(OmegaConf, "register_new_resolver") else "register_resolver"
    getattr(OmegaConf, name)("uid", lambda: "mine", replace=True)
    try:
        advunlearn.audit(model(), forget=PARTS["forget"], test=TEST)
        assert OmegaConf.create({"a": "${uid:}"}).a == "mine"
    finally:
        OmegaConf.clear_resolver("uid")


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)  # the fixture `torch_as_before` resets it
    yield


@pytest.mark.parametrize(
    "surroundings",
    [torch.no_grad(), torch.inference_mode(), np.errstate(all="raise"), default_dtype()],
    ids=["no_grad", "inference_mode", "numpy raises", "float64"],
)
def test_what_a_program_has_set_changes_no_result(surroundings: AbstractContextManager[object]) -> None:
    network = model()
    expected = found(network)
    with surroundings:
        settings = torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr()
        assert found(network) == expected
        assert (torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr()) == settings


def test_a_programs_random_numbers_are_not_drawn_from() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    unlearned = model()
    torch.manual_seed(1)
    np.random.seed(1)
    advunlearn.unlearn(unlearned, **PARTS, epochs=2)
    advunlearn.audit(unlearned, forget=PARTS["forget"], test=TEST, attacks=["classifier", "threshold"])
    assert (torch.rand(1), np.random.rand()) == expected
