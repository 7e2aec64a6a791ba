"""Split an unmodified classifier into stages and its own head, by the graph of its operations.

Where a single tensor passes, a network can be cut. A stage ends at the last such place of its stride that is a feature
map, so that the stages of VGG-16 end with the last layer before each max-pool (relu1_2 to relu5_3), and those of a
ResNet with layer1 to layer4. What follows the last stage is the head, e.g. the last max-pool and the fully connected
layers. Places between which there are no weights, such as a layer and its pooling, count as one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from mining.backbones.receptive_fields import GridTrace
from mining.errors import ModelError

_PROBE = (163, 226)  # px, not square, so that channels are not taken for a side; no multiples of a stride
_SAME_RATIO = 0.1
_UNTRACEABLE = (RuntimeError, AssertionError, ValueError, TypeError, NameError, AttributeError, KeyError, IndexError)


@dataclass(frozen=True)
class SplitClassifier:
    """A classifier in parts that run one after the other.

    Attributes:
        stages: Shallow to deep; each takes and returns a feature map (B, C, h, w).
        channels: Channels of each stage's output.
        strides: Stride of each stage's output, in input px per cell.
        head: From the last stage's features to (B, classes) logits.
    """

    stages: list[nn.Module]
    channels: list[int]
    strides: list[int]
    head: nn.Module


@dataclass(frozen=True)
class _Cut:
    """A place where a single feature map passes: the position of its node in the graph, its stride and channels."""

    position: int
    stride: int
    channels: int


def split_classifier(network: nn.Module, name: str) -> SplitClassifier:
    """Split a classifier; its parts share its weights, so that weights may be loaded into it afterwards.

    Args:
        network: From (B, 3, H, W) to (B, classes) logits; it is set to evaluation mode, and its layers no longer work
            in place, which would overwrite features.
        name: Its name, for messages.

    Raises:
        ModelError: Its operations cannot be traced, or no feature map precedes its last layers (transformers).
    """
    for part in network.eval().modules():
        if hasattr(part, "inplace"):
            cast(Any, part).inplace = False
    fault = "its operations cannot be traced"
    try:
        graph = _trace(network)
        fault = "it does not take images of any size"
        shapes = _probe(graph)
    except _UNTRACEABLE as error:
        reason = "" if isinstance(error, AssertionError) else f" ({(str(error) or type(error).__name__):.100})"
        raise _no_features(name, " ".join(f"{fault}{reason}".split())) from None
    nodes = list(graph.graph.nodes)
    has_weights = [_has_weights(graph, node) for node in nodes]
    cuts = _choose_cuts(list(_find_cuts(nodes, shapes, has_weights)), has_weights)
    in_head = sum(has_weights[cuts[-1].position + 1 :]) if cuts else 0
    if not cuts or 2 * in_head > sum(has_weights):
        raise _no_features(name, "no feature map precedes its last layers")
    parts = _cut_graph(graph, nodes, [cut.position for cut in cuts])
    return SplitClassifier(parts[:-1], [cut.channels for cut in cuts], [cut.stride for cut in cuts], parts[-1])


def _no_features(name: str, reason: str) -> ModelError:
    return ModelError(
        f"pretrained:{name} cannot mine: {reason}. Use a convolutional network, such as vgg16 or resnet50; on a model "
        f"of timm a localizer can be trained (`boxmine train --backbone {name}`)."
    )


def _trace(network: nn.Module) -> fx.GraphModule:
    import timm.layers as timm_layers
    from torchvision.models.feature_extraction import NodePathTracer

    timms = cast(Any, timm_layers)
    functions = tuple(one for one in timms.get_notrace_functions() if callable(one))
    tracer = NodePathTracer(autowrap_functions=functions, leaf_modules=timms.get_notrace_modules())
    return fx.GraphModule(network, tracer.trace(network))


def _probe(graph: fx.GraphModule) -> dict[fx.Node, tuple[int, int]]:
    """Run an empty image; return stride and channels of each node that is a feature map."""
    some = next(graph.parameters())
    image = some.new_zeros(1, 3, *_PROBE)
    with torch.inference_mode(False), torch.no_grad(), GridTrace(image) as trace:
        probe = _Probe(graph, trace)
        probe.run(image)
    return probe.features


class _Probe(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, trace: GridTrace) -> None:
        super().__init__(graph)
        self.features: dict[fx.Node, tuple[int, int]] = {}
        self._trace = trace

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.ndim == 4 and (stride := self._stride(value)) is not None:
            self.features[n] = stride, value.shape[1]
        return value

    def _stride(self, value: Tensor) -> int | None:
        """Return the stride, from the strides of the layers or, where these are not followed, from the size."""
        grid = self._trace.grid_of(value)
        if grid is not None:
            return round(grid.step_y)
        if min(value.shape[2:]) < 2:
            return None
        ratio_y, ratio_x = (side / cells for side, cells in zip(_PROBE, value.shape[2:], strict=True))
        return 2 ** round(math.log2(ratio_y)) if abs(ratio_y / ratio_x - 1) < _SAME_RATIO else None


def _has_weights(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return next(graph.get_submodule(str(node.target)).parameters(), None) is not None
    if node.op != "get_attr":
        return False
    owner, _, attribute = str(node.target).rpartition(".")
    return isinstance(getattr(graph.get_submodule(owner), attribute), nn.Parameter)


def _find_cuts(
    nodes: Sequence[fx.Node], features: dict[fx.Node, tuple[int, int]], has_weights: Sequence[bool]
) -> Iterator[_Cut]:
    """Yield the places where a single feature map passes, and weights follow."""
    last_use = {node: max((nodes.index(user) for user in node.users), default=-1) for node in nodes}
    alive: set[fx.Node] = set()
    weights_left = sum(has_weights)
    for position, node in enumerate(nodes):
        alive = {one for one in alive if last_use[one] > position}
        if last_use[node] > position:
            alive.add(node)
        weights_left -= has_weights[position]
        if alive == {node} and node in features and node.op != "placeholder" and weights_left:
            yield _Cut(position, *features[node])


def _choose_cuts(cuts: Sequence[_Cut], has_weights: Sequence[bool]) -> list[_Cut]:
    """Return the last place of each stride, in ascending order; each has weights between it and the one before."""
    last_of_stride = {cut.stride: cut for cut in cuts}
    chosen: list[_Cut] = []
    for cut in sorted(last_of_stride.values(), key=lambda one: one.position):
        start = chosen[-1].position + 1 if chosen else 0
        if any(has_weights[start : cut.position + 1]):
            chosen.append(cut)
    return chosen


def _cut_graph(graph: fx.GraphModule, nodes: Sequence[fx.Node], positions: Sequence[int]) -> list[nn.Module]:
    """Return the parts of the graph between its input, the nodes at the positions, and its output."""
    image = next(node for node in nodes if node.op == "placeholder")
    ends = [*positions, len(nodes) - 1]
    starts = [0, *(position + 1 for position in positions)]
    sources = [image, *(nodes[position] for position in positions)]
    return [
        _part(graph, source, nodes[start : end + 1]) for source, start, end in zip(sources, starts, ends, strict=True)
    ]


def _part(graph: fx.GraphModule, source: fx.Node, nodes: Sequence[fx.Node]) -> nn.Module:
    part = fx.Graph()
    copies = {source: part.placeholder("features")}
    copy: Callable[[fx.Node], fx.Node] = copies.__getitem__
    for node in nodes:
        if node.op == "output":
            part.output(fx.map_arg(node.args[0], copy))
        elif node.op != "placeholder":
            copies[node] = part.node_copy(node, copy)
    if nodes[-1].op != "output":
        part.output(copies[nodes[-1]])
    return fx.GraphModule(graph, part)
