"""The layers at the end of a network that cost next to nothing and so stay in float.

Once a layer's output has a single position there is nothing left to average: every error of
rounding goes into the embedding as it is. In a MobileFaceNet the global depthwise convolution and
the last matrix make 0.04 % of the multiply-adds, and 15 % of the noise of INT8 when they take part.
"""

from __future__ import annotations

from edgeface_export.architectures.network import Conv, Gate, Linear, Network

__all__ = ["excitation_layers", "head_layers"]


def excitation_layers(network: Network) -> dict[str, str]:
    """Return why each convolution that leads to the number of a gate stays in float, by its name.

    It reads one position, which costs what a matrix costs that one vector is multiplied by, and no
    BatchNorm tells what it reads.
    """
    by_name = {layer.name: layer for layer in network.layers}
    found: dict[str, str] = {}
    for gate in network.layers:
        name = gate.skip if isinstance(gate, Gate) else ""
        while name in by_name and network.shapes[by_name[name].input][1:] == (1, 1):
            if isinstance(by_name[name], Conv):
                found[name] = "a convolution of one position is a matrix-vector product"
            name = by_name[name].input
    return found


def head_layers(network: Network, share: float) -> dict[str, str]:
    """Return why each layer of the head of ``network`` stays in float, by its name.

    The head is as much of the end as fits into ``share`` of the multiply-adds.
    """
    costs = network.multiply_adds()
    left = share * sum(costs.values())
    found: dict[str, str] = {}
    for layer in reversed(network.layers):
        if not isinstance(layer, Conv | Linear):
            continue
        left -= costs[layer.name]
        if left < 0:
            break
        found[layer.name] = "part of the end, whose rounding few positions average out"
    return found
