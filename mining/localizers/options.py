"""The options of each localizer, checked without loading a network.

One frozen dataclass per localizer; defaults are the paper's unless its text says otherwise. The localizers themselves
are in mining.localizers, which brings torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from mining.config import Share
from mining.errors import ModelError, did_you_mean
from mining.localizers.registry import refuse_unknown_localizer

C = TypeVar("C", bound=Any)  # a frozen dataclass
Dropout = Annotated[float, Field(ge=0, lt=1)]


def build_config(kind: type[C], options: Mapping[str, Any]) -> C:
    """A frozen config made from a person's options, each checked against the type of its field.

    Raises ModelError with the nearest name for one that is unknown, and with the value for one of the wrong kind.
    """
    names = [one.name for one in fields(kind)]
    for name in options:
        if name not in names:
            raise ModelError(f"Unknown option {name!r} of the localizer: {did_you_mean(name, names)}")
    try:
        return TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        fault = error.errors()[0]
        raise ModelError(
            f"Option {fault['loc'][0]!r} of the localizer: {fault['msg']} (got {fault['input']!r})."
        ) from None


def comma_separated(value: Any) -> Any:
    """'2, 3' as a command line has it to its parts; anything else as it is. For options that are tuples."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


@dataclass(frozen=True)
class CAMConfig:
    """background: what a map is measured against.

    'mean': the mean of all classes' maps is taken off. Softmax sees differences of classes only, so a map is known up
        to a part common to all classes; without it the map shows what speaks for this class rather than what speaks
        for any object. (NL-CCAM's combination of all ranks, in its simplest form.)
    'none': the map as the paper has it.
    dropout: on the averaged features, in training.
    """

    background: Literal["mean", "none"] = "mean"
    dropout: Dropout = 0.2


@dataclass(frozen=True)
class GradientConfig:
    """Options of every gradient method.

    background: which score is differentiated.
        'none': the class's own, before softmax, as the papers have it.
        'mean': the class's minus the mean of all classes', the part of it that softmax sees (see CAMConfig).
    dropout: on the averaged features, in training.
    """

    background: Literal["none", "mean"] = "none"
    dropout: Dropout = 0.2


@dataclass(frozen=True)
class GradCAMConfig(GradientConfig):
    """layer: stage of the backbone whose activation is read, -1 the last.

    relu: cut what speaks against the class off the map (eq. 2); without, the map is the plain weighted sum.
    """

    layer: int = -1
    relu: bool = True


@dataclass(frozen=True)
class GradCAMppConfig(GradCAMConfig):
    """score: what Y^c is. 'logit': the score itself. 'exp': its exponential, as the paper derives the alphas.

        The alphas are the same; 'exp' multiplies an image's map by exp(S^c), which changes no box of one scale but
        weighs the scales of a pyramid, and is infinite from scores of 89 on.
    eps: added to the denominator of the alphas; 1e-6 for the numbers of the package grad-cam.
    """

    score: Literal["logit", "exp"] = "logit"
    eps: float = 0.0


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("give each down-sampling once, in rising order")
    return values


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel is of odd size, so that it has a centre")
    return value


Places = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_rising), BeforeValidator(comma_separated)]
Kernel = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Kernels = Annotated[tuple[Kernel, ...], BeforeValidator(comma_separated)]


@dataclass(frozen=True)
class MLDFRConfig(CAMConfig):
    """The paper's settings.

    background, dropout: see CAMConfig; the paper's maps are measured against nothing, and it has no dropout.
    attention: the self-attention (SA of table IX). after: the down-samplings it follows. kernels: its convolutions'.
    batch_norm: after each convolution (BN of table IX); False takes the backbone's own out, as of ResNet50X.
    last: what stands for the last down-sampling. 'transition': a 1x1 convolution, the paper's. 'dilated': the
        pretrained layer without its stride, those behind it dilated, as all other localizers have it.
    extra_channels: of the convolution added to VGG16.
    bias: of the class convolution.
    attention_batch_norm: in front of the sigmoids, as in the released code.
    attention_start: 'random' weights, or 'neutral', as if there were no attention (for pretrained backbones).
    attention_rate: share of the learning rate that attention gets.
    """

    background: Literal["mean", "none"] = "none"
    dropout: Dropout = 0.0
    attention: bool = True
    after: Places = (2, 3, 4)
    kernels: Kernels = (7, 5, 3)
    batch_norm: bool = True
    last: Literal["transition", "dilated"] = "transition"
    extra_channels: Annotated[int, Field(ge=1, le=65_536)] = 1024
    bias: bool = False
    attention_batch_norm: bool = False
    attention_start: Literal["random", "neutral"] = "random"
    attention_rate: Annotated[float, Field(gt=0)] = 0.1


def _odd_side(side: int) -> int:
    if side % 2 == 0:
        raise ValueError("a window has a middle only where its side is odd")
    return side


@dataclass(frozen=True)
class MSRDConfig(GradientConfig):
    """layers: whose maps are added (Tables IV and V): the paper's fusion is conv5+conv4, its baseline conv5.

    apart: which stages of a network are conv5, conv4 and conv3.
        'stride': the deepest stage of each stride, as in VGG-16, where they are strides 16, 8 and 4.
        'stage': the last three stages, as ResNet's are named; at output stride 16 conv5 and conv4 are then of one size.
    window: W, side of the sliding window (Table IV); odd. stride: N, its step (Algorithm 1, line 3).
    delta: a local maximum counts above it (Table VI); the paper takes 0, and 0.1 for CUB.
    negative: the gradient weights where the gradient is negative.
        'zero': they are 0, as the paper's data have it ("of the background 0, all of them less than 0.5").
        'kept': eq. 19 to the letter; such weights lie above 0.5 and say nothing about the class.
    features: a layer's activation before it is used. 'rectified': its positive part, which is all of it in VGG and
        ResNet; the alphas of linear bottlenecks (EfficientNet-Lite, MobileNetV2) would have no bound. 'raw': as it is.
    """

    layers: Literal["conv5", "conv4", "conv5+conv4", "conv5+conv4+conv3"] = "conv5+conv4"
    apart: Literal["stride", "stage"] = "stride"
    window: Annotated[int, Field(ge=1), AfterValidator(_odd_side)] = 3
    stride: Annotated[int, Field(ge=1)] = 1
    delta: Annotated[float, Field(ge=0)] = 0.0
    negative: Literal["zero", "kept"] = "zero"
    features: Literal["rectified", "raw"] = "rectified"


@dataclass(frozen=True)
class CCAMConfig:
    """How the maps of all classes make one; all of table 6 can be had from a trained model (see MineOptions.options).

    function: 'top_bottom' is the paper's choice for ILSVRC, whose classes have little in common; 'polynomial' the one
        for CUB-200-2011, whose classes are all birds.
    top, bottom: i and j of eq. 6. Where i + j exceeds the classes, the first i ranks keep their 1.
    degree: eta of eq. 5: 0 constant, 1 linear, 2 quadratic, 3 cubic.
    pivot: p of eq. 5, the number of foreground maps; None is (K + 1) / 2.
    first: the class of rank 1: the one 'asked' for, or the most probable one ('predicted') whatever is asked for.
    dropout: on the averaged features, in training.
    """

    function: Literal["top_bottom", "polynomial"] = "top_bottom"
    top: Annotated[int, Field(ge=0)] = 1
    bottom: Annotated[int, Field(ge=0)] = 10
    degree: Annotated[float, Field(ge=0)] = 2.0
    pivot: Annotated[float, Field(ge=0)] | None = None
    first: Literal["asked", "predicted"] = "asked"
    dropout: Dropout = 0.0


@dataclass(frozen=True)
class NLCCAMConfig(CCAMConfig):
    """What CCAM has (see CCAMConfig), and the network.

    after: the stages (1 is the first) that a non-local block follows, e.g. 2,3,4,5; None is all but the first, and the
        only one of a backbone that has one. Table 7's low level alone is e.g. 2,3 on VGG16, its high level 4,5.
    pooling: the block stands 'before' the pooling that opens the next stage, or 'after' it, where it costs a
        sixteenth. The same thing for backbones whose stages do not open with a max-pooling.
    reduction: C / C', channels of the features for each channel of their embedding (eq. 7).
    convolution: channels of a 3x3 convolution in front of the averaging, 0 for none; None is VGGnet-GAP's 1024 on a
        VGG and 0 on others, whose last features are made to be averaged.
    bias: of the class convolution; eq. 1 has none.
    backbone_rate: learning rate of a backbone that is trained too, as share of that of what is new; the text names
        one rate, which is 1.
    """

    after: Annotated[tuple[int, ...] | None, BeforeValidator(comma_separated)] = None
    pooling: Literal["before", "after"] = "before"
    reduction: Annotated[int, Field(ge=1)] = 8
    convolution: Annotated[int, Field(ge=0, le=65_536)] | None = None
    bias: bool = False
    backbone_rate: Annotated[float, Field(gt=0)] = 0.1


Count = Annotated[int, Field(ge=1, le=65_536)]
Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class ORNetConfig:
    """The paper's values; those that the text does not give are marked *, and are of the released code.

    Network. shallow*: how many of the backbone's stages are F_1^c; by default all up to the first of stride 4.
    width*: channels that the encoder-decoder starts from; by default those of the shallow features, at most 64.
    depth*: how often it halves the map. features: channels of f^a, by default the number of classes (eq. 2).
    dropout: on the averaged features of classifier and evaluator, in training.

    Training. stage_one: share of the epochs (the paper: 70 of 100 on CUB, 5 of 8 on ImageNet); 1 leaves stage two out.
    auxiliary: weight of the auxiliary head's loss (eq. 6). evaluation: weight of L_e; alpha, beta: of the entropy and
    the area loss (eq. 10); 0 switches a loss off.
    entropy: 'weighted' is L_w (eq. 14) with the Gaussian's mu and sigma, 'mean' is L_h (eq. 13), as in Table 4.
    refine_shallow: stage two trains the shallow layers too; False keeps them and their statistics.
    upsampling*: how p^a is brought to the size of the image.

    Looking. margin: cells by which the image's border pixels are repeated around it when maps are drawn, none of them
    in the map. Of the paper 0: convolutions then see an edge where a light image ends in their padding, and shallow
    features take edges for objects.

    Attentive erasing (section 3.2.2). erase: whether at all. erase_share: of the maps that are erased.
    erase_probability: of a candidate pixel; 'adaptive' is 0.2 + 0.6 p^a.
    erase_depth_least*, erase_depth*: between these the depth d of the threshold peak - d (peak - minimum) is drawn.
    erase_least*: least side of the rectangle, as share of the map's; the most is the extent of what is above the
    threshold.
    """

    shallow: Count | None = None
    width: Count | None = None
    depth: Count = 3
    features: Count | None = None
    dropout: Dropout = 0.2
    stage_one: Annotated[float, Field(gt=0, le=1)] = 0.7
    auxiliary: Weight = 1.0
    evaluation: Weight = 1.0
    alpha: Weight = 1.5
    beta: Weight = 0.02
    entropy: Literal["weighted", "mean"] = "weighted"
    mu: float = 0.5
    sigma: Annotated[float, Field(gt=0)] = 0.1
    refine_shallow: bool = True
    upsampling: Literal["nearest-exact", "bilinear"] = "nearest-exact"
    margin: Annotated[int, Field(ge=0)] = 2
    erase: bool = True
    erase_share: Share = 1.0
    erase_probability: Share | Literal["adaptive"] = 0.5
    erase_depth_least: Share = 0.0
    erase_depth: Share = 0.5
    erase_least: Share = 1 / 7


def _below(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("the first threshold, of the background, must be below the second, of objects")
    return value


_Threshold = Annotated[float, Field(gt=0, lt=1)]
Thresholds = Annotated[tuple[_Threshold, _Threshold], AfterValidator(_below), BeforeValidator(comma_separated)]
Layers = Annotated[int, Field(ge=0, le=100)]
Filters = Annotated[int, Field(ge=1, le=65_536)]


@dataclass(frozen=True)
class SPGConfig:
    """The paper's settings.

    b1, b2, fused: thresholds (delta_l, delta_h) of eq. 1, of the masks that supervise B1, B2 and C.
    branches: 'ABC' is SPG, 'AB' is without the auxiliary supervision of C, 'A' is the paper's SPG-plain.
    cascade: B1 learns from the output of B2; if not, both learn from the attention map.
    shared: the second and third layers of B1 and B2 are the same.
    a3_layers, width: 3x3 convolutions between A2 and the class filters, and filters of each.
    c_layers, guidance_width: 3x3 convolutions of C before its output, and filters of each in B and C.
    third_block: the backbone's stages behind A2 are kept, in front of A3.
    dropout: in front of each convolution of A behind the backbone, in training; 0.5 in the released code.
    guidance_weight: of the losses of B1, B2 and C; the text sums them as they are.
    background: what the maps that localize are measured against, see CAMConfig; the paper's against nothing. Those that
        the masks are made of stay as they are.
    fewest_object_px, fallback: a mask with fewer object pixels takes those above this share of its map's maximum.
        The text has no such thing; the released code has 30 and 0.7.
    """

    b1: Thresholds = (0.05, 0.5)
    b2: Thresholds = (0.1, 0.7)
    fused: Thresholds = (0.1, 0.7)
    branches: Literal["ABC", "AB", "A"] = "ABC"
    cascade: bool = True
    shared: bool = True
    a3_layers: Layers = 2
    width: Filters = 1024
    c_layers: Layers = 2
    guidance_width: Filters = 512
    third_block: bool = False
    dropout: Dropout = 0.0
    guidance_weight: Annotated[float, Field(ge=0)] = 1.0
    background: Literal["mean", "none"] = "none"
    fewest_object_px: Annotated[int, Field(ge=0)] = 0
    fallback: Share = 0.7


OPTIONS: dict[str, type[Any]] = {
    "cam": CAMConfig,
    "ccam": CCAMConfig,
    "nlccam": NLCCAMConfig,
    "ornet": ORNetConfig,
    "spg": SPGConfig,
    "gradcam": GradCAMConfig,
    "gradcampp": GradCAMppConfig,
    "layercam": GradCAMConfig,
    "msrd": MSRDConfig,
    "mldfr": MLDFRConfig,
}


def options_of(localizer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as given, each of the type of its field. Raises ModelError, also for an unknown localizer."""
    refuse_unknown_localizer(localizer)
    config = build_config(OPTIONS[localizer], options)
    return {name: getattr(config, name) for name in options}
