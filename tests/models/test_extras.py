"""Models of timm and of transformers, with the real libraries and tiny configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from advunlearn.models.foreign import own_module
from advunlearn.models.huggingface import HuggingFace
from advunlearn.models.timm import Timm
from advunlearn.options import UserError

BERT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 20,
    "max_position_embeddings": 8,
}
VIT = {**{name: BERT[name] for name in list(BERT)[:4]}, "image_size": 8, "patch_size": 4}
TOKENS = {"input_ids": (6,), "attention_mask": (6,)}


def test_timms_models_take_the_images_channels_and_arguments() -> None:
    network = Timm(name="test_vit", arguments={"img_size": 32}).build((1, 32, 32), 3)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(UserError, match=r"^name=vit_tinny_patch16_224: there is no such model \(did you mean vit_tiny"):
        Timm(name="vit_tinny_patch16_224").build((1, 32, 32), 3)


def test_a_language_model_takes_inputs_by_name_and_gives_logits() -> None:
    network = HuggingFace(name="bert", arguments=BERT).build(TOKENS, 3).eval()
    inputs = {"input_ids": torch.randint(0, 20, (4, 6)), "attention_mask": torch.ones(4, 6, dtype=torch.long)}
    logits = network(inputs)
    assert logits.shape == (4, 3)
    assert torch.equal(logits, own_module(network)(**inputs).logits)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the config and the weights of a trained network for three classes."""
    network = HuggingFace(name="vit", arguments=VIT).build((3, 8, 8), 3)
    own_module(network).save_pretrained(tmp_path / "vit")
    torch.save(network.state_dict(), tmp_path / "expected.pt")
    return tmp_path / "vit"


def test_a_folders_weights_are_for_the_original_only(folder: Path) -> None:
    model = HuggingFace(path=str(folder))
    assert model.weights_file() == folder / "model.safetensors"
    expected = torch.load(folder.parent / "expected.pt")
    trained, fresh = model.trained((3, 8, 8), 3).state_dict(), model.build((3, 8, 8), 3).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.items())
    assert not torch.equal(fresh["network.classifier.weight"], expected["network.classifier.weight"])
    with pytest.raises(UserError, match=r"the folder lacks weights of this classifier, or in this shape: classif"):
        model.trained((3, 8, 8), 4)


def test_with_pretrained_every_network_starts_from_them_with_a_head_for_its_classes(folder: Path) -> None:
    model = HuggingFace(path=str(folder), pretrained=True)
    assert model.weights_file() is None
    expected, (first, second) = torch.load(folder.parent / "expected.pt"), [model.build((3, 8, 8), 4) for _ in range(2)]
    body = "network.vit.embeddings.patch_embeddings.projection.weight"
    assert torch.equal(first.state_dict()[body], expected[body])
    assert not torch.equal(own_module(first).classifier.weight, own_module(second).classifier.weight)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            HuggingFace(name="bert", arguments={"hiden_size": 3}),
            r"^arguments.hiden_size: the config of bert has no",
        ),
        (HuggingFace(name="bert", arguments=BERT), r"^transformers has no classifier of inputs 3x8x8 for bert"),
        (HuggingFace(name="brt"), r"^name=brt: no config can be read \(did you mean bert\?\)"),
        (HuggingFace(path="nowhere"), r"^path=nowhere must be a folder with config.json"),
    ],
)
def test_a_mistake_is_one_line(model: HuggingFace, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=words) as caught:
        model.build((3, 8, 8), 3)
    assert "\n" not in str(caught.value)
