from __future__ import annotations

import numpy as np
import torch

from advunlearn.seeding import numpy_stream, torch_stream


def test_a_stream_is_its_name_seed_and_index() -> None:
    def draw(*key: object) -> list[int]:
        return torch.randint(2**31, (4,), generator=torch_stream(*key)).tolist()  # type: ignore[arg-type]

    assert draw(0, "init") == draw(0, "init")
    different = [draw(0, "init"), draw(1, "init"), draw(0, "batches"), draw(0, "init", 0), draw(0, "init", 1)]
    assert len({tuple(each) for each in different}) == len(different)


def test_drawing_from_one_stream_moves_no_other() -> None:
    alone = numpy_stream(3, "split").random(5)
    torch.rand(7)
    np.random.random(3)
    torch_stream(3, "attack").seed()
    numpy_stream(3, "attack").random(100)
    assert (numpy_stream(3, "split").random(5) == alone).all()
