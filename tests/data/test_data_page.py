"""Every command and every piece of code in docs/data.md, on small data of the kind that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advunlearn.config.compose import jobs_to_check
from tests.data.test_published import cifar100
from tests.data.test_torchvision import mnist

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
RNG = np.random.default_rng(0)
PEOPLE = ["id,age,city,member", *[f"{n},{20 + n % 50},{'Bern' if n % 3 else 'Chur'},{n % 2 == 0}" for n in range(60)]]


@pytest.fixture
def person(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the files that the page assumes."""
    monkeypatch.syspath_prepend(str(workplace))
    for number in range(60):
        path = workplace / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    (workplace / "request.txt").write_text("cat/1.png\ndog/10.png\n", encoding="utf-8")
    (workplace / "people.csv").write_text("\n".join(PEOPLE), encoding="utf-8")
    mnist(workplace / "data" / "FashionMNIST" / "raw")
    features, function = (block for language, block in BLOCKS if language == "python")
    (workplace / "mydata.py").write_text(function, encoding="utf-8")
    exec(features, {})
    return workplace


def hugging_face(folder: Path) -> None:
    """Write a saved set of images, a set of texts, and a tokenizer of words."""
    import datasets
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    pixels = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    content = {"image": [Image.fromarray(each) for each in pixels], "label": [n % 2 for n in range(60)]}
    datasets.Dataset.from_dict(content).save_to_disk(str(folder / "letters"))
    texts = {"text": ["good film" if n % 2 else "bad film" for n in range(60)], "label": [n % 2 for n in range(60)]}
    datasets.Dataset.from_dict(texts).save_to_disk(str(folder / "reviews"))
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film"])}
    own = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(str(folder / "words"))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_right(line: str, person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the experiment of a command, and load its data if they need no download."""
    program, _, *words = shlex.split(line)
    assert program == "advunlearn"
    if "dataset=huggingface" in words:
        hugging_face(person)
    if "dataset.path=downloads" in words:
        (person / "downloads").mkdir()
        cifar100(person / "downloads", monkeypatch)
    if "model.path=bert" in words:
        import transformers

        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        transformers.BertConfig(**sizes).save_pretrained("bert")
    overrides = [word for word in words if "=" in word]
    (job,) = jobs_to_check(overrides, None, multirun=False)
    if not job.experiment.dataset.is_here():
        return
    pool, info = job.experiment.dataset.load(), job.experiment.dataset.info()
    assert len(pool.labels) == info.train + info.test
    assert pool.classes == len(info.classes)


def test_the_page_names_every_option_of_the_group() -> None:
    options = {path.stem for path in (Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml")}
    public = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Public datasets")[2].partition("\n## ")[0], re.MULTILINE)
    assert {word for line in COMMANDS for word in re.findall(r"dataset=(\w+)", line)} | set(public) == options
