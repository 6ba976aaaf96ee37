from __future__ import annotations

import numpy as np
import pytest
import torch

from advunlearn.data.examples import examples_of
from advunlearn.data.python import Python
from advunlearn.options import UserError

CPU = torch.device("cpu")
SOURCE = """
import random
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)

class Pairs(Dataset):
    def __init__(self, inputs, labels=None, targets=None):
        self.inputs, self.own = inputs, labels if labels is not None else [n % 3 for n in range(len(inputs))]
        if targets is not None:
            self.targets = targets
    def __len__(self):
        return len(self.inputs)
    def __getitem__(self, position):
        value = self.inputs[position]
        return (value() if callable(value) else value), self.own[position]

def features(count=12, scale=1.0):
    return TensorDataset(scale * torch.arange(2.0 * count).view(count, 2), torch.arange(count) % 3)

def pictures(): return Pairs([Image.fromarray(each) for each in PIXELS])
def arrays(): return Pairs(PIXELS)
def tensors(): return Pairs(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
def fractions(): return Pairs(torch.from_numpy(PIXELS).permute(0, 3, 1, 2).double() / 255)
def gray(): return Pairs([Image.fromarray(each).convert("L") for each in PIXELS])
def named(): return Pairs([{"ids": [n, n + 1], "mask": np.array([True, False])} for n in range(12)])
def tuples(): return Pairs([(torch.ones(3) * n, n) for n in range(12)])
def texts(): return Pairs([float(n) for n in range(6)], ["b", "a", "b", "c", "a", "c"])
def lists(): return [([1.0, 2.0, n], n % 2) for n in range(8)]
def shuffled(): return Pairs([random.random for _ in range(12)])
def ragged(): return Pairs([torch.ones(3 if n < 7 else 4) for n in range(12)])
def infinite(): return Pairs([torch.ones(2) / (n - 4) for n in range(12)])
def single(): return [1, 2, 3]
def words(): return Pairs(["one", "two"])
def regression(): return Pairs(torch.ones(3, 2), [0.5, 1.5, 2.5])
def fails(): return Pairs([lambda: 1 / 0] * 3)
def broken(): raise OSError("no such disk")
def empty(): return []
def halved():
    part = features()
    return Pairs(part.tensors[0], labels=[n % 2 for n in range(12)], targets=[n % 3 for n in range(12)])
def dicts(): return [{"x": [1.0, 2.0, n], "label": n % 2} for n in range(8)]
def tokens(): return [{"ids": [n, 1], "mask": [1, 1], "labels": n % 2} for n in range(8)]
def unlabeled(): return [{"x": [1.0, 2.0]}] * 3
def triples(): return TensorDataset(torch.ones(6, 2), torch.ones(6, 3), torch.arange(6) % 2)
class Records(Pairs):
    samples = [{"x": 1}] * 12
def records(): return Records(PIXELS)
def nothing(): return 5
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("own")
    (folder / "owndata.py").write_text(SOURCE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        yield folder


def of(name: str, **options: object) -> Python:
    return Python(factory=f"owndata:{name}", **options)  # type: ignore[arg-type]


def test_features_of_two_parts_with_arguments() -> None:
    dataset = of("features", test_factory="owndata.features", arguments={"count": 6, "scale": 0.5})
    info, pool = dataset.info(), dataset.load()
    assert (info.train, info.test, info.classes, info.shape, info.images) == (6, 6, (0, 1, 2), (2,), False)
    assert pool.inputs[:6].tolist() == (np.arange(12.0).reshape(6, 2) / 2).tolist()
    assert pool.labels.tolist() == [0, 1, 2] * 4
    assert examples_of(pool, dataset, np.arange(6), CPU, channels_last=False).normalise is None


@pytest.mark.parametrize("name", ["pictures", "arrays", "tensors"])
def test_images_of_every_kind_are_the_same(name: str) -> None:
    import owndata  # type: ignore[import-not-found]

    dataset = of(name)
    info, pool = dataset.info(), dataset.load()
    assert (info.shape, info.images, info.example_bytes) == ((3, 6, 5), True, 90)
    assert (pool.inputs == owndata.PIXELS).all()
    whole = examples_of(pool, dataset, np.arange(12), CPU, channels_last=False).prepared()
    assert whole.mean(dim=(0, 2, 3)).abs().max() < 1e-5


def test_images_of_fractions_are_left_as_they_are() -> None:
    import owndata

    dataset = of("fractions", augment="flip_crop")
    assert dataset.info().images
    examples = examples_of(dataset.load(), dataset, np.arange(12), CPU, channels_last=False)
    expected = torch.from_numpy(owndata.PIXELS).permute(0, 3, 1, 2) / 255
    assert torch.allclose(examples.prepared(), expected)
    assert examples.augment is not None
    normalised = of("fractions", mean=[0.5] * 3, std=[0.25] * 3)
    examples = examples_of(normalised.load(), normalised, np.arange(12), CPU, channels_last=False)
    assert torch.allclose(examples.prepared(), (expected - 0.5) / 0.25, atol=1e-6)


def test_gray_images_have_one_channel() -> None:
    assert of("gray").info().shape == (1, 6, 5)


@pytest.mark.parametrize(
    ("name", "shape", "whole"),
    [("named", {"ids": (2,), "mask": (2,)}, True), ("tuples", {"input0": (3,), "input1": ()}, False)],
)
def test_several_inputs_have_names(name: str, shape: dict[str, tuple[int, ...]], whole: bool) -> None:
    dataset = of(name)
    assert (dataset.info().shape, dataset.info().whole_numbers) == (shape, whole)
    examples = examples_of(dataset.load(), dataset, np.arange(5), CPU, channels_last=False)
    assert examples.shape == shape
    assert len(examples) == 12


def test_labels_may_be_texts_and_a_dataset_a_list() -> None:
    assert of("texts").load().labels.tolist() == [1, 0, 1, 2, 0, 2]
    assert of("texts").info().classes == (0, 1, 2)
    assert of("lists").load().inputs.shape == (8, 3)


def test_labels_are_those_of_the_items_not_of_an_attribute_that_differs() -> None:
    assert of("halved").info().classes == (0, 1)
    assert of("halved").load().classes == 2
    assert of("records").info().classes == (0, 1, 2)


def test_an_item_may_be_a_dict_with_its_label() -> None:
    pool = of("dicts").load()
    assert (of("dicts").info().shape, pool.inputs.shape, pool.labels.tolist()) == ((3,), (8, 3), [0, 1] * 4)
    assert of("tokens").info().shape == {"ids": (2,), "mask": (2,)}
    assert of("tokens").load().labels.tolist() == [0, 1] * 4


def test_processes_read_the_same() -> None:
    first, second = (of("pictures", workers=workers).load() for workers in (0, 1))
    assert first.checksum == second.checksum


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shuffled", "example 0 is another one each time it is read; leave out what is random"),
        ("ragged", "example 7 is inputs float32 (4,), example 0 is inputs float32 (3,)"),
        ("infinite", "factory: inputs of 1 examples are not finite, the first of them example 4"),
        ("single", "factory: an example cannot be read (it must be a pair of inputs and a label, got int)"),
        ("triples", "got tuple of 3; several inputs are a tuple, ((a, b), label)"),
        ("unlabeled", "(a dict must hold `label` and inputs, got x)"),
        ("words", "(inputs must be numbers, tensors, arrays or images, got str)"),
        ("regression", "labels must be whole numbers or texts, one for each example, got float64"),
        ("fails", "factory: an example cannot be read (ZeroDivisionError: division by zero ("),
        ("broken", "factory=owndata:broken: OSError: no such disk ("),
        ("empty", "factory=owndata:empty returned no example"),
        ("nothing", "factory=owndata:nothing: TypeError: object of type 'int' has no len()"),
        ("absent", "factory=owndata:absent: cannot be imported (AttributeError"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        (of(name).info(), of(name).load())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_process_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^factory: an example cannot be read \(ZeroDivisionError: division by"):
        of("fails", workers=1).load()
    with pytest.raises(UserError, match=r"must be a pair of inputs and a label, got int\)$"):
        of("single", workers=1).load()


def test_no_function_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"^factory must be the import path .* \(try dataset.factory=mypkg"):
        Python().info()
