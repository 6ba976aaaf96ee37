"""The forward pass of many networks at once, each with its own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Tensors = Mapping[str, Tensor]
Forward = Callable[[Tensors, Tensors, Any], Tensor]

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
_KNOWN = (
    *(nn.Linear, nn.Flatten, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *_ELEMENTWISE,
)


def stacked_forward(network: nn.Module, memory_format: torch.memory_format) -> Forward:
    """Return the forward pass of k networks like this one, in training mode.

    The function takes their parameters and buffers (k, ...) by name, whose running statistics it updates, and inputs
    (k, b, ...), and returns (k, b, ...). A sequence of known layers is one operation per layer; vmap, which is used
    for any other network, does not keep images in the fast memory format.
    """
    if in_layers(network):
        layers = [
            (layer, {own: f"{name}.{own}" for own in layer.state_dict()}) for name, layer in network.named_children()
        ]

        def through(parameters: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
            tensors = {**parameters, **buffers}
            for layer, names in layers:
                x = _apply(layer, {own: tensors[name] for own, name in names.items()}, x, memory_format)
            return x

        return through
    skeleton = copy.deepcopy(network).to("meta").train()

    def one(parameters: Tensors, buffers: Tensors, x: Any) -> Tensor:
        return functional_call(skeleton, ({**parameters}, {**buffers}), (x,))

    return vmap(one)


def in_layers(network: nn.Module) -> bool:
    """Return whether the network is a sequence of known layers, without shared weights and hooks."""
    if type(network) is not nn.Sequential or network._forward_hooks or network._forward_pre_hooks:
        return False
    layers = list(network)
    weights = [weight for layer in layers for weight in layer.parameters()]
    return all(map(_is_known, layers)) and len(set(layers)) == len(layers) and len(set(weights)) == len(weights)


def _is_known(layer: nn.Module) -> bool:
    if type(layer) not in _KNOWN or layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if isinstance(layer, nn.Conv2d):
        return bool(layer.padding_mode == "zeros")
    if isinstance(layer, nn.BatchNorm2d):
        return layer.momentum is not None and layer.track_running_stats and layer.affine
    return not isinstance(layer, nn.Flatten) or (layer.start_dim, layer.end_dim) == (1, -1)


def _apply(layer: nn.Module, own: Tensors, x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return the outputs of k layers of one kind with the tensors `own` (k, ...) for x (k, b, ...)."""
    if isinstance(layer, nn.Linear):
        weight = own["weight"].mT
        return torch.baddbmm(own["bias"][:, None], x, weight) if "bias" in own else torch.bmm(x, weight)
    if isinstance(layer, nn.Flatten):
        return x.flatten(2)
    if isinstance(layer, _ELEMENTWISE):
        return layer(x)
    # (b, k * channels, h, w), as the layer before left it: only the inputs are copied.
    images = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=memory_format)
    flat = {name: tensor.flatten(0, 1) for name, tensor in own.items() if tensor.dim() > 1}
    if isinstance(layer, nn.Conv2d):
        geometry: Any = (layer.stride, layer.padding, layer.dilation, len(x) * layer.groups)
        images = F.conv2d(images, flat["weight"], flat.get("bias"), *geometry)
    elif isinstance(layer, nn.BatchNorm2d):
        own["num_batches_tracked"].add_(1)
        statistics = flat["running_mean"], flat["running_var"]
        momentum = layer.momentum or 0.0
        images = F.batch_norm(images, *statistics, flat["weight"], flat["bias"], True, momentum, layer.eps)
    else:
        images = layer(images)
    return images.unflatten(1, (len(x), -1)).transpose(0, 1)
