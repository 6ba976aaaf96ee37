from __future__ import annotations

import pytest
import torch
from torch.nn import BatchNorm2d, MaxPool2d

from advunlearn.models.cnn import CNN
from advunlearn.models.mlp import MLP
from advunlearn.models.model import Model
from advunlearn.models.resnet18 import ResNet18


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8)])
@pytest.mark.parametrize("model", [MLP(hidden=16, layers=2), CNN(width=4), ResNet18(width=8)])
def test_a_network_maps_images_to_logits_and_learns_in_every_parameter(
    model: Model, shape: tuple[int, int, int]
) -> None:
    network = model.build(shape, 7)
    logits = network(torch.randn(5, *shape))
    assert logits.shape == (5, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_sizes_are_the_published_ones() -> None:
    assert (
        sum(parameter.numel() for parameter in MLP(hidden=256).build((1, 8, 8), 10).parameters()) == 65 * 256 + 257 * 10
    )
    resnet = ResNet18().build((3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in resnet.parameters()) == 11_173_962
    assert not any(isinstance(module, MaxPool2d) for module in resnet.modules())


def test_resnet_is_torchvisions_behind_its_stem() -> None:
    from torchvision.models import resnet18

    theirs, ours = resnet18(num_classes=10), ResNet18().build((3, 32, 32), 10)
    stages = [theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4]
    weights = [tensor for stage in stages for tensor in stage.state_dict().values()]
    state = ours.state_dict()
    names = [name for name in state if 3 <= int(name.split(".")[0]) <= 10]
    assert [state[name].shape for name in names] == [tensor.shape for tensor in weights]
    ours.load_state_dict(dict(zip(names, weights, strict=True)), strict=False)
    features = torch.randn(2, 64, 16, 16)
    expected = features
    theirs.eval()
    for stage in stages:
        expected = stage(expected)
    torch.testing.assert_close(ours.eval()[3:11](features), expected)


def test_batch_norm_can_be_left_out() -> None:
    network = CNN(width=4, batch_norm=False).build((3, 32, 32), 10)
    assert not any(isinstance(module, BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("model", [CNN(), ResNet18()])
def test_images_too_small_are_refused_in_one_line(model: Model) -> None:
    with pytest.raises(ValueError, match=r"at least 8x8 pixels, got 4x9$"):
        model.build((1, 4, 9), 10)
