from __future__ import annotations

import itertools

import numpy as np
import torch
from torch.nn import functional as F

from advunlearn.data.dataset import Pool
from advunlearn.data.digits import Digits
from advunlearn.data.examples import QUERIES, Examples, FlipCrop, Normalise, Query, examples_of


def test_flip_crop_is_a_window_of_the_padded_image_or_its_mirror() -> None:
    images = torch.randint(0, 256, (32, 3, 6, 5), dtype=torch.uint8)
    augment = FlipCrop(2)
    shifted = augment(images, augment.draw([32], torch.Generator().manual_seed(0)))
    padded = F.pad(images, (2, 2, 2, 2))
    flips = 0
    for before, after in zip(padded, shifted, strict=True):
        windows = [before[:, y : y + 6, x : x + 5] for y in range(5) for x in range(5)]
        plain = any(torch.equal(after, window) for window in windows)
        mirrored = any(torch.equal(after, window.flip(2)) for window in windows)
        assert plain or mirrored
        flips += mirrored and not plain
    assert 4 < flips < 28


def test_augmentation_is_for_training_batches_only() -> None:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    normalise = Normalise(torch.tensor([[[100.0]]]), torch.tensor([[[50.0]]]))
    examples = Examples(images, torch.arange(20), True, normalise, FlipCrop(3))
    (inputs, labels), *_ = examples.batches(20)
    assert torch.equal(inputs, (images.float() - 100) / 50)
    assert labels.tolist() == list(range(20))
    (batch,) = examples.shuffled(20, torch.Generator(), torch.Generator().manual_seed(2))
    shown, labels = examples.training_batch(batch)
    plain = inputs[labels]
    assert shown.shape == plain.shape
    assert not torch.equal(shown, plain)


def test_an_epoch_is_drawn_batch_by_batch_from_each_stream() -> None:
    rows = torch.tensor([7, 1, 5, 3, 2])
    examples = Examples(torch.zeros(10, 1, 2, 2), torch.arange(10), augment=FlipCrop(1))
    drawn = examples.draw(2, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1), rows)
    order, augment = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    assert torch.equal(drawn[0], rows[torch.randperm(5, generator=order)])
    for part in drawn[1:].split([2, 3], 1):  # no batch of one
        assert torch.equal(part[:2], torch.randint(0, 3, (2, part.shape[1]), generator=augment))
        assert torch.equal(part[2], torch.randint(0, 2, (part.shape[1],), generator=augment))
    assert len(Examples(examples.inputs, examples.labels).draw(2, order, augment)) == 1


def test_several_networks_batches_lie_next_to_each_other() -> None:
    examples = Examples(torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8), torch.arange(10), augment=FlipCrop(1))
    draws = [examples.draw(4, torch.Generator().manual_seed(n), torch.Generator().manual_seed(n)) for n in (0, 1)]
    both = examples.training_batch(examples.cut(torch.stack(draws, 1), 4)[1])
    for position, each in enumerate(draws):
        for whole, own in zip(both, examples.training_batch(examples.cut(each, 4)[1]), strict=True):
            assert torch.equal(whole[position], own)


def test_an_epoch_shows_every_example_once_in_an_order_of_its_own() -> None:
    examples = Examples(torch.arange(10.0)[:, None], torch.arange(10))
    order = torch.Generator().manual_seed(0)
    first, second = ([batch[0].tolist() for batch in examples.shuffled(4, order, order)] for _ in range(2))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(10))
    assert first != second


def test_a_last_batch_of_one_joins_the_batch_before() -> None:
    examples = Examples(torch.arange(9.0)[:, None], torch.arange(9))
    batches = [batch[0].tolist() for batch in examples.shuffled(4, torch.Generator(), torch.Generator())]
    assert [len(batch) for batch in batches] == [4, 5]
    assert sorted(itertools.chain(*batches)) == list(range(9))
    ones = [batch[0].tolist() for batch in examples.shuffled(1, torch.Generator(), torch.Generator())]
    assert [len(batch) for batch in ones] == [1] * 9


def test_the_pool_becomes_examples_on_the_device() -> None:
    images = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    pool = Pool(images, np.array([1, 0]), 2, 2)
    dataset = Digits(mean=[10 / 255, 20 / 255], std=[2 / 255, 4 / 255])
    examples = examples_of(pool, dataset, np.arange(2), torch.device("cpu"), channels_last=True)
    ((inputs, labels),) = examples.batches()
    expected = (images.astype(np.float32) - [10.0, 20.0]) / [2.0, 4.0]
    np.testing.assert_allclose(inputs.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [1, 0]


def test_subset_and_followed_by() -> None:
    examples = Examples(torch.arange(5.0)[:, None], torch.arange(5))
    both = examples.subset(np.array([4, 0])).followed_by(examples.subset(torch.tensor([2])))
    assert both.labels.tolist() == [4, 0, 2]
    assert both.inputs[:, 0].tolist() == [4, 0, 2]


def test_queries_are_views_that_keep_the_shape_and_begin_with_the_image_itself() -> None:
    images = torch.randint(0, 256, (3, 1, 32, 16), dtype=torch.uint8)
    views = [query(images) for query in QUERIES]
    assert len(views) == 18
    assert (views[0] == images).all()
    assert (views[1] == images.flip(-1)).all()
    assert len({view.numpy().tobytes() for view in views}) == 18
    assert all(view.shape == images.shape and view.dtype == images.dtype for view in views)
    down = Query(down=1)(images)  # by a sixteenth of the height
    assert (down[:, :, 2:] == images[:, :, :-2]).all()
    assert not down[:, :, :2].any()
    right = Query(mirror=True, right=-1)(images)
    assert (right[..., :-1] == images.flip(-1)[..., 1:]).all()


def test_augmented_images_are_in_the_fast_memory_format() -> None:
    augment, images = FlipCrop(2), torch.arange(3 * 3 * 6 * 8, dtype=torch.uint8).view(3, 3, 6, 8)
    augmented = augment(images, augment.draw([3], torch.Generator().manual_seed(0)))
    assert augmented.is_contiguous(memory_format=torch.channels_last)
