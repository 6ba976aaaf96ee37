"""The forward pass of many networks at once, each with its own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

Tensors = Mapping[str, Tensor]
Forward = Callable[[Tensors, Tensors, Any], Tensor]

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
_KNOWN = (
    *(nn.Linear, nn.Flatten, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *_ELEMENTWISE,
)


class Stack:
    """k networks of one architecture as one, in training mode.

    Attributes:
        parameters, buffers: (k, ...) by name. With images in channels_last format, the weights of convolutions are
            (k, outputs, h, w, inputs): their gradients arise in this order, and no step has to copy them.
    """

    def __init__(self, networks: Sequence[nn.Module], memory_format: torch.memory_format) -> None:
        self._networks = networks
        self._forward = _stacked_forward(networks[0], memory_format)
        self._inputs_last = {
            f"{name}.weight"
            for name, layer in networks[0].named_children()
            if isinstance(layer, nn.Conv2d) and in_layers(networks[0]) and memory_format is torch.channels_last
        }
        stacked, self.buffers = stack_module_state(networks)
        self.parameters = {}
        for name, each in stacked.items():
            moved = each.movedim(2, -1) if name in self._inputs_last else each
            # Frozen weights remain frozen.
            self.parameters[name] = nn.Parameter(moved.detach().contiguous(), each.requires_grad)

    def __call__(self, inputs: Any) -> Tensor:
        """Return the outputs (k, b, ...) for inputs (k, b, ...), and update the running statistics."""
        return self._forward(self.plain(self.parameters), self.buffers, inputs)

    def plain(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return parameters, or their gradients, by name with the axes that they have in the networks."""
        return {name: each.movedim(-1, 2) if name in self._inputs_last else each for name, each in tensors.items()}

    def unstack(self) -> None:
        """Copy the parameters and buffers into the networks."""
        tensors = {**self.plain(self.parameters), **self.buffers}
        with torch.no_grad():
            for position, network in enumerate(self._networks):
                for name, tensor in (*network.named_buffers(), *network.named_parameters()):
                    tensor.copy_(tensors[name][position])


def _stacked_forward(network: nn.Module, memory_format: torch.memory_format) -> Forward:
    """Return the forward pass of k networks like this one, for their parameters, buffers and inputs.

    A sequence of known layers is one operation per layer; vmap, which is used for any other network, does not keep
    images in the fast memory format.
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
        # Products with weights on the left are several times as fast if there are few outputs, and the gradients of
        # the weights need no copy.
        weight, columns = own["weight"], x.mT
        bias = own.get("bias")
        outputs = torch.bmm(weight, columns) if bias is None else torch.baddbmm(bias[..., None], weight, columns)
        return outputs.mT
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
