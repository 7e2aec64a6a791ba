"""What every localizer costs, as Markdown tables: counted from shapes, so the same on every machine.

    python tests/benchmarks/costs.py [--write]

--write also puts the tables into mining/localizers/README.md. Nothing is computed: all is on PyTorch's meta device,
which has shapes and no numbers.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from mining.backbones.base import Backbone
from mining.backbones.build import build
from mining.localizers.base import ClassificationLoss, Localizer
from mining.localizers.gradient import GradientLocalizer
from mining.localizers.loading import localizer_named
from mining.localizers.registry import LOCALIZERS

README = Path(__file__).parents[2] / "mining" / "localizers" / "README.md"
BEGIN, END = "<!-- counted by make costs -->", "<!-- end of what is counted -->"
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0", "vgg16": "VGG16", "resnet50": "ResNet50"}
TRANSFORMERS = {"vit_small_patch14_reg4_dinov2": "DINOv2 ViT-S/14 with registers"}
CLASSES = 20
SIDE = 224  # px at scale 1
SCALES = (1.0, 1.5, 2.0)
# an option that changes what a method costs, by method
VARIANTS: dict[str, dict[str, Any]] = {
    "nlccam": {"pooling": "after"},
    "spg": {"preset": "paper"},
    "ornet": {"preset": "paper"},
}


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What was run.

    multiply_adds: of convolutions and matrix products, forward and backward. parameters: id to size of those used.
    stages: of each backbone that was run, how many of how many.
    """

    multiply_adds: float = 0.0
    parameters: dict[int, int] = field(default_factory=dict)
    stages: list[tuple[int, int]] = field(default_factory=list)


class Counting(TorchDispatchMode):
    """Looks at every operation below autograd, by the formulas of PyTorch's FlopCounterMode.

    That mode itself fails where gradients are asked for by torch.autograd.grad, as gradient.py does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        used = (value for value in tree_leaves((args, given)) if isinstance(value, nn.Parameter))
        self.seen.parameters.update({id(value): value.numel() for value in used})
        packet = func.overloadpacket
        if packet is torch.ops.aten.convolution_backward:
            self.seen.multiply_adds += convolution_backward(*args)
        elif packet in flop_registry:
            self.seen.multiply_adds += flop_registry[packet](*args, **given, out_val=out) / 2
        return out


def convolution_backward(grad: Tensor, inputs: Tensor, weight: Tensor, *rest: Any) -> float:
    """As many as forward for the input's gradient, and again for the weight's, where they are asked for.

    PyTorch's own formula takes a grouped convolution's weight for that of an ungrouped one.
    """
    *_, transposed, _, _, mask = rest
    once = conv_flop_count(list(inputs.shape), list(weight.shape), list(grad.shape), transposed) / 2
    return once * (mask[0] + mask[1])


@contextmanager
def counting() -> Iterator[Seen]:
    """What is run inside is counted. Attention as the two products that it is, not as a kernel."""
    # localizers switch autocast off where they need precision, and the meta device does not know it
    without_autocast = mock.patch.object(torch, "autocast", return_value=nullcontext())
    with without_autocast, sdpa_kernel(SDPBackend.MATH), Counting() as mode:
        yield mode.seen


def counted(localizer: Localizer, function: Callable[[], object]) -> Seen:
    """What a look with the localizer takes, and through which stages it goes."""
    networks = [part for part in localizer.modules() if isinstance(part, Backbone)]
    run: list[list[nn.Module]] = [[] for _ in networks]
    hooks = [
        first_layer(stage).register_forward_pre_hook(lambda layer, _, ran=ran: ran.append(layer))
        for network, ran in zip(networks, run, strict=True)
        for stage in network.stages
    ]
    with torch.no_grad(), counting() as seen:
        function()
    for hook in hooks:
        hook.remove()
    seen.stages = [(len(ran), len(network.stages)) for network, ran in zip(networks, run, strict=True) if ran]
    return seen


def first_layer(stage: nn.Module) -> nn.Module:
    """The first with weights; a stage itself may be run in pieces."""
    return next(part for part in stage.modules() if [*part.parameters(recurse=False)])


def drawn(name: str, backbone: str, **options: Any) -> Localizer:
    """The localizer on the meta device."""
    with torch.device("meta"):
        return localizer_named(name)(build(backbone)[0], CLASSES, **options)


@dataclass(frozen=True)
class Mining:
    """What an image costs, its label known. Multiply-adds in G, parameters in M, both with those of the backbone.

    parameters, used: those that there are, and those that mining looks at. scales: multiply-adds at each of SCALES.
    again: of one more class at scale 1. first, further: stages run at scale 1 and at another, as Seen has them.
    """

    parameters: float
    used: float
    scales: tuple[float, ...]
    again: float
    first: list[tuple[int, int]]
    further: list[tuple[int, int]]


def costs_of_mining(name: str, backbone: str, **options: Any) -> Mining:
    """The calls are those of mining/localizers/pyramid.py: `localize` at scale 1, `maps` at the others."""
    localizer = drawn(name, backbone, **options).eval()
    first, twice = (seen_by(localizer, localizer.localize, 1.0, classes) for classes in (1, 2))
    further = [seen_by(localizer, localizer.maps, scale) for scale in SCALES[1:]]
    return Mining(
        parameters=sum(value.numel() for value in localizer.parameters()) / 1e6,
        used=sum(first.parameters.values()) / 1e6,
        scales=tuple(seen.multiply_adds / 1e9 for seen in (first, *further)),
        again=(twice.multiply_adds - first.multiply_adds) / 1e9,
        first=first.stages,
        further=further[0].stages,
    )


def seen_by(localizer: Localizer, look: Callable[[Tensor, Tensor], object], scale: float, classes: int = 1) -> Seen:
    """One image at a scale, with so many labels."""
    side = round(scale * SIDE)
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8, device="meta")
    labels = torch.zeros(1, classes, dtype=torch.int64, device="meta")
    return counted(localizer, lambda: look(image, labels))


def costs_of_training(name: str, backbone: str, *, frozen: bool) -> list[float]:
    """G multiply-adds an image of a training step, forward and backward; of each stage of the training."""
    localizer = drawn(name, backbone)
    if frozen:
        localizer.freeze_backbone()
    images = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8, device="meta")
    targets = torch.zeros(2, CLASSES, device="meta")
    taken = []
    for epoch in range(2 if in_stages(localizer_named(name)) else 1):
        localizer.train()
        localizer.start_epoch(epoch, 2)
        with counting() as seen:
            losses = localizer.training_step(images, targets, ClassificationLoss("single"))
            torch.stack(list(losses.values())).sum().backward()
        localizer.zero_grad()
        taken.append(seen.multiply_adds / len(images) / 1e9)
    return taken


def bare(backbone: str) -> tuple[float, float]:
    """M parameters and G multiply-adds of the backbone alone, for an image of scale 1."""
    with torch.device("meta"):
        network = build(backbone)[0].eval()
    image = torch.zeros(1, 3, SIDE, SIDE, device="meta")
    with torch.no_grad(), counting() as seen:
        network(image)
    return sum(value.numel() for value in network.parameters()) / 1e6, seen.multiply_adds / 1e9


# --- tables ----------------------------------------------------------------------------------------------------------


def tables() -> str:
    """All of them, each under its heading."""
    on_transformers = [name for name in LOCALIZERS if name != "mldfr"]  # which needs down-samplings
    parts = [
        methods_table(),
        *(mining_table(backbone) for backbone in BACKBONES),
        *(mining_table(backbone, on_transformers) for backbone in TRANSFORMERS),
        training_table(),
    ]
    return "\n\n".join(parts)


def methods_table() -> str:
    """What a localizer says of itself."""
    rows = [
        [f"`{name}`", own_training(kind), gradients_of(kind), *maps_of(kind), cut_of(kind)]
        for name, kind in ((name, localizer_named(name)) for name in LOCALIZERS)
    ]
    columns = ["localizer", "training of its own", "backward when mining", "maps", "several objects", "maps are cut at"]
    return f"### Methods\n\n{markdown(columns, rows)}"


def own_training(kind: type[Localizer]) -> str:
    """Whether a model must be trained for this method alone."""
    if kind.weights_of is not None:
        return "no: any classifier's weights"
    return "yes, in two stages" if in_stages(kind) else "yes"


def in_stages(kind: type[Localizer]) -> bool:
    """Whether the training changes on its way."""
    return kind.start_epoch is not Localizer.start_epoch


def gradients_of(kind: type[Localizer]) -> str:
    """To which features a class's gradient is traced, by their stride, which is the same of all BACKBONES."""
    if not kind.needs_gradients:
        return "no"
    reached = set()
    for backbone in BACKBONES:
        localizer = drawn(kind.name, backbone)
        assert isinstance(localizer, GradientLocalizer)
        reached.add(tuple(localizer.backbone.strides[stage] for stage in localizer.stages_read()))
    (strides,) = reached
    return f"to the features of stride {' and '.join(map(str, strides))}"


def maps_of(kind: type[Localizer]) -> tuple[str, str]:
    """Whose the maps are, and what several objects come to."""
    if kind.class_agnostic:
        return "one per image", "one box per region, the same for every class"
    return "one per class", "one box per region of the class"


def cut_of(kind: type[Localizer]) -> str:
    """The threshold, and of what it is a share (mining/regions/extraction.py)."""
    return f"{kind.threshold:g} of the {'maximum' if kind.normalise == 'max' else 'range'}"


def mining_table(backbone: str, names: Iterable[str] = LOCALIZERS) -> str:
    """Each localizer on the backbone, and its variants where they cost something else."""
    parameters, forward = bare(backbone)
    found: dict[str, Mining] = {}
    for name in names:
        found[f"`{name}`"] = costs_of_mining(name, backbone)
        options = VARIANTS.get(name, {})
        other = costs_of_mining(name, backbone, **options)
        if other != found[f"`{name}`"]:
            found[f"`{name}`, {', '.join(f'{key} {value}'.lower() for key, value in options.items())}"] = other
    columns = [
        "localizer", "parameters added: training", "mining", "passes at scale 1", "further scale", "GMACs at scale 1",
        "/ backbone", "further class", *(f"scale {scale:g}" for scale in SCALES[1:]), "all scales", "/ `cam`",
    ]  # fmt: skip
    rows = [
        [
            name, f"{cost.parameters - parameters:+.2f} M", f"{cost.used - parameters:+.2f} M", passes(cost.first),
            passes(cost.further), number(cost.scales[0]), f"{cost.scales[0] / forward:.2f}", number(cost.again),
            *map(number, cost.scales[1:]), number(sum(cost.scales)),
            f"{sum(cost.scales) / sum(found['`cam`'].scales):.2f}",
        ]
        for name, cost in found.items()
    ]  # fmt: skip
    title = (
        f"### {(BACKBONES | TRANSFORMERS)[backbone]}: {parameters:.2f} M parameters, {number(forward)} GMACs at scale 1"
    )
    return f"{title}\n\n{markdown(columns, rows)}"


def passes(stages: list[tuple[int, int]]) -> str:
    """Whole networks as their number, parts of one by their stages."""
    whole = sum(run == there for run, there in stages)
    parts = [f"{run} of {there} stages" for run, there in stages if run != there]
    return " + ".join([*([str(whole)] if whole else []), *parts])


def training_table() -> str:
    """A step, on each backbone; methods on the same weights share a row."""
    columns = ["localizer", *(f"{title}, {how}" for title in BACKBONES.values() for how in ("frozen", "whole"))]
    rows = []
    kinds = {name: localizer_named(name) for name in LOCALIZERS}
    for name, kind in kinds.items():
        alike = [other for other, one in kinds.items() if one.weights_of == kind.weights_of is not None] or [name]
        if name == alike[0]:
            steps = [
                " then ".join(map(number, costs_of_training(name, backbone, frozen=frozen)))
                for backbone in BACKBONES
                for frozen in (True, False)
            ]
            rows.append([", ".join(f"`{one}`" for one in alike), *steps])
    return f"### Training: GMACs per image, forward and backward\n\n{markdown(columns, rows)}"


def number(value: float) -> str:
    """Three digits, or two behind the point."""
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def main(arguments: list[str]) -> int:
    """Print the tables; with --write put them into the README too."""
    if arguments not in ([], ["--write"]):
        sys.exit(f"Unknown argument {arguments[0]!r}; there is --write.")
    printed = tables()
    print(printed)
    if arguments:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{printed}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
