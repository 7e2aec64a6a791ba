"""The options of each localizer, checked and described without importing torch.

One frozen dataclass per localizer. Each field carries its meaning as pydantic's `Field(description=...)`, which
`boxmine localizers NAME` shows. Defaults are the paper's unless the meaning says otherwise or a preset has the
paper's. A config may have these attributes (`mining/localizers/option_values.py` reads them):

- `PRESETS`: the defaults of other options, by the value of the option `preset`.
- `SEVERAL_LABELS`: the defaults of options where images have several labels.
- `end_of_stage_one`: the share of the epochs after which a second stage of training begins, None for one stage.

A default that has changed since a released model could have been trained with it is marked with `EarlierVersions`. New
models record the option whether it was given or not, and a model that does not record it has the earlier value.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mining.config import EarlierVersions, Share
from mining.localizers.option_types import (
    BACKGROUND,
    OVERRIDDEN,
    PAPER,
    Background,
    Count,
    Dropout,
    Kernel,
    Kernels,
    Layers,
    Places,
    Preset,
    Thresholds,
    Weight,
    check_odd_side,
    meaning,
    stage_numbers,
)


@dataclass(frozen=True)
class CellSpec:
    """The shape of a cell classifier (see mining/localizers/cell_classifier.py), as model.json records it.

    Attributes:
        stages: Indices of the backbone's stages that are read, the last stage first.
        components: Number of components of each stage.
        hidden: Width of the hidden layer.
    """

    stages: list[int]
    components: list[int]
    hidden: int = 128


@dataclass(frozen=True)
class CAMConfig:
    """Options of CAM; dropout and `background: mean` are not in the paper."""

    background: Annotated[Background, meaning(BACKGROUND)] = "mean"
    dropout: Dropout = 0.2


@dataclass(frozen=True)
class GradientConfig:
    """Options of every gradient method; dropout and `background: mean` are not in the papers."""

    background: Annotated[
        Background,
        meaning(
            "Which score is differentiated. none: the class's own, before softmax, as in the papers; mean: the class's "
            "minus the mean of all classes', which is the part that softmax sees."
        ),
    ] = "none"
    dropout: Dropout = 0.2


@dataclass(frozen=True)
class GradCAMConfig(GradientConfig):
    """Options of Grad-CAM and LayerCAM."""

    layer: Annotated[
        int, meaning("Stage of the backbone whose activation is read, from 0, or from the end: -1 is the last.")
    ] = -1
    relu: Annotated[
        bool,
        meaning("Set negative activation to 0 (eq. 2); without it, the map also shows what speaks against the class."),
    ] = True


@dataclass(frozen=True)
class GradCAMppConfig(GradCAMConfig):
    """Options of Grad-CAM++."""

    score: Annotated[
        Literal["logit", "exp"],
        meaning(
            "The score Y^c. logit: the logit itself; exp: its exponential, from which the paper derives the alphas. "
            "The alphas are the same, but exp multiplies an image's map by exp(logit): no box of one scale changes, "
            "the scales of a pyramid are weighted differently, and logits above 89 overflow."
        ),
    ] = "logit"
    eps: Annotated[
        float, meaning("Added to the denominator of the alphas; 1e-6 gives the numbers of the package grad-cam.")
    ] = 0.0


@dataclass(frozen=True)
class MLDFRConfig(CAMConfig):
    """Options of mLDFR; the defaults suit pretrained backbones, `preset: paper` has the paper's."""

    dropout: Dropout = 0.0
    preset: Annotated[
        Preset,
        EarlierVersions(PAPER),
        meaning(
            "pretrained: the defaults below, which keep what a pretrained backbone knows and suit short trainings, of "
            "the head or of the whole network. paper: attention_start random, attention_batch_norm false, "
            "attention_rate 1, last transition, bias false, background none, and maps are cut at 0.2 of their range. "
            f"{OVERRIDDEN}"
        ),
    ] = "pretrained"
    attention: Annotated[bool, meaning("Self-attention (SA of table IX).")] = True
    after: Annotated[Places, meaning("Which down-samplings attention follows, counted from 1, in rising order.")] = (
        2,
        3,
        4,
    )
    kernels: Annotated[Kernels, meaning("Odd kernel size of each spatial attention, one per entry of `after`.")] = (
        7,
        5,
        3,
    )
    batch_norm: Annotated[
        bool,
        meaning("Batch norm after each convolution (BN of table IX); false removes the backbone's own (ResNet50X)."),
    ] = True
    last: Annotated[
        Literal["transition", "dilated"],
        meaning(
            "What replaces the last down-sampling. transition: a new 1x1 convolution, as in the paper; dilated: the "
            "pretrained layer without its stride, later ones dilated, as for all other localizers."
        ),
    ] = "dilated"
    extra_channels: Annotated[Count, meaning("Channels of the convolution that is added to VGG16.")] = 1024
    bias: Annotated[
        bool,
        meaning(
            "Bias of the class convolution, which is not part of the maps; the released code has one. Where images "
            "have several labels, it starts at the share of images that show the class, and `preset: paper` has it too."
        ),
    ] = True
    attention_batch_norm: Annotated[
        bool,
        meaning(
            "Batch norm before the sigmoids of the attention, as in the released code; without it, features of large "
            "values, as linear blocks have, saturate the attention."
        ),
    ] = True
    attention_start: Annotated[
        Literal["random", "neutral"],
        meaning(
            "Initial attention. random: Xavier's distribution, as in the released code; neutral: as if there were no "
            "attention, which suits pretrained backbones."
        ),
    ] = "neutral"
    attention_rate: Annotated[
        float,
        Field(gt=0),
        EarlierVersions(0.1),
        meaning("Learning rate of the attention, as share of that of new layers."),
    ] = 0.1

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        PAPER: {
            "attention_start": "random", "attention_batch_norm": False, "attention_rate": 1.0, "last": "transition",
            "bias": False, "background": "none",
        },
    }  # fmt: skip
    SEVERAL_LABELS: ClassVar[dict[str, Any]] = {"bias": True}


@dataclass(frozen=True)
class MSRDConfig(GradientConfig):
    """Options of MSRD."""

    layers: Annotated[
        Literal["conv5", "conv4", "conv5+conv4", "conv5+conv4+conv3"],
        meaning("Layers whose maps are added (tables IV and V); conv5 alone is the paper's baseline."),
    ] = "conv5+conv4"
    apart: Annotated[
        Literal["stride", "stage"],
        meaning(
            "Which stages are conv5, conv4 and conv3. stride: the deepest stage of each stride, as in VGG-16 (16, 8, "
            "4); stage: the last three stages, as ResNet's are named, of which two have stride 16."
        ),
    ] = "stride"
    window: Annotated[
        int,
        Field(ge=1),
        AfterValidator(check_odd_side),
        meaning("Side W of the sliding window, in cells (table IV); odd."),
    ] = 3
    stride: Annotated[int, Field(ge=1), meaning("Step N of the sliding window, in cells (algorithm 1, line 3).")] = 1
    delta: Annotated[
        float, Field(ge=0), meaning("A local maximum counts above this value (table VI); the paper has 0.1 for CUB.")
    ] = 0.0
    negative: Annotated[
        Literal["zero", "kept"],
        meaning(
            "Gradient weights where the gradient is negative. zero: they are 0, as section IV-C has those of the "
            "background; kept: eq. 19 to the letter, where such weights exceed 0.5 and say nothing about the class."
        ),
    ] = "zero"
    features: Annotated[
        Literal["rectified", "raw"],
        meaning(
            "Activation of a layer. rectified: its positive part, which is all of it in VGG and ResNet, and keeps the "
            "alphas bounded on linear bottlenecks (EfficientNet-Lite, MobileNetV2); raw: unchanged."
        ),
    ] = "rectified"


@dataclass(frozen=True)
class CCAMConfig:
    """Options of CCAM: how the maps of all classes are combined. All of table 6 is possible with a trained model."""

    function: Annotated[
        Literal["top_bottom", "polynomial"],
        meaning(
            "Combination function. top_bottom: the paper's choice for ILSVRC, whose classes have little in common; "
            "polynomial: its choice for CUB-200-2011, whose classes are all birds."
        ),
    ] = "top_bottom"
    top: Annotated[int, Field(ge=0), meaning("Number i of most probable classes that are added (eq. 6).")] = 1
    bottom: Annotated[
        Annotated[int, Field(ge=0)] | None,
        EarlierVersions(10),
        meaning(
            "Number j of least probable classes that are subtracted (eq. 6). By default a hundredth of the classes, at "
            "least 1: 10 of ImageNet's 1000, as in the paper; of few classes, ten are too many. Where i + j exceeds "
            "the number of classes, the first i ranks are added."
        ),
    ] = None
    degree: Annotated[
        float,
        Field(ge=0),
        meaning("Degree eta of the polynomial (eq. 5): 0 constant, 1 linear, 2 quadratic, 3 cubic."),
    ] = 2.0
    pivot: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("Number p of foreground maps of the polynomial (eq. 5); by default (K + 1) / 2."),
    ] = None
    first: Annotated[
        Literal["asked", "predicted"],
        meaning(
            "The class of rank 1. asked: the class whose map is drawn; predicted: the most probable one, so that all "
            "classes of an image have the same map."
        ),
    ] = "asked"
    dropout: Dropout = 0.0


@dataclass(frozen=True)
class NLCCAMConfig(CCAMConfig):
    """Options of NL-CCAM: those of CCAM, and the network's."""

    after: Annotated[
        tuple[int, ...] | None,
        BeforeValidator(stage_numbers),
        meaning(
            "Stages, from 1, that a non-local block follows, e.g. 2,3,4,5; by default all but the first. Table 7's low "
            "level is 2,3 on VGG16, its high level 4,5. none: no blocks, which on VGG16 is the paper's VGGnet-CCAM."
        ),
    ] = None
    pooling: Annotated[
        Literal["before", "after"],
        meaning(
            "Whether a block stands before or after the max-pooling that opens the next stage; after costs a "
            "sixteenth. No difference for backbones without such pooling."
        ),
    ] = "before"
    reduction: Annotated[
        int, Field(ge=1), meaning("C / C': channels of the features per channel of their embedding (eq. 7).")
    ] = 8
    convolution: Annotated[
        Annotated[int, Field(ge=0, le=65_536)] | None,
        meaning(
            "Channels of a 3x3 convolution before the averaging, 0 for none; by default 1024 on VGG (VGGnet-GAP) and 0 "
            "on others, whose last features are made to be averaged."
        ),
    ] = None
    bias: Annotated[bool, meaning("Bias of the class convolution; eq. 1 has none.")] = False
    backbone_rate: Annotated[
        float,
        Field(gt=0),
        meaning("Learning rate of an unfrozen backbone, as share of that of new layers; the paper's is 1."),
    ] = 0.1


@dataclass(frozen=True)
class ORNetConfig:
    """Options of ORNet. Values that the paper does not give are those of the released code, marked (code)."""

    preset: Annotated[
        Preset,
        EarlierVersions(PAPER),
        meaning(
            "pretrained: the defaults below, for a dozen epochs on some hundreds of images. paper: shallow_stride 4, "
            "depth 3, contrast 1, stage_one 0.7, beta 0.02, rest 0, erase true, for a hundred epochs on thousands of "
            f"images; stage two begins at a tenth of the learning rate, and maps are cut at 0.5. {OVERRIDDEN}"
        ),
    ] = "pretrained"
    shallow: Annotated[
        Count | None,
        meaning("Number of shallow stages F_1^c; by default all up to the first of `shallow_stride`."),
    ] = None
    shallow_stride: Annotated[
        Count,
        EarlierVersions(4),
        meaning("Stride in px at which the shallow stages end, at the latest before the last stage; 4 in the code."),
    ] = 16
    width: Annotated[
        Count | None,
        meaning("Channels of the encoder-decoder's first level; by default the shallow features', at most 64 (code)."),
    ] = None
    depth: Annotated[Count, EarlierVersions(3), meaning("How often the encoder halves the map; 3 in the code.")] = 2
    contrast: Annotated[
        float,
        EarlierVersions(1.0),
        Field(gt=0),
        meaning(
            "Scale that the generator's last batch norm (eq. 2) starts with. With 1 most of p^a lies between 0.27 and "
            "0.73 at first, and a short training hardly leaves this range; the paper names none."
        ),
    ] = 3.0
    features: Annotated[Count | None, meaning("Channels of f^a (eq. 2); by default the number of classes.")] = None
    dropout: Annotated[
        float, Field(ge=0, lt=1), meaning("Dropout on the averaged features of classifier and evaluator, in training.")
    ] = 0.2
    stage_one: Annotated[
        float,
        Field(gt=0, le=1),
        meaning(
            "Share of the epochs in stage one; 1 leaves stage two out. The paper: 70 of 100 on CUB, 5 of 8 on ImageNet."
        ),
    ] = 0.4
    auxiliary: Annotated[Weight, meaning("Weight of the auxiliary head's loss (eq. 6).")] = 1.0
    evaluation: Annotated[Weight, meaning("Weight of the evaluation loss L_e (eq. 10); 0 switches it off.")] = 1.0
    alpha: Annotated[Weight, meaning("Weight of the entropy loss (eq. 10); 0 switches it off.")] = 1.5
    beta: Annotated[Weight, EarlierVersions(0.5), meaning("Weight of the area loss (eq. 10); 0 switches it off.")] = 2.0
    rest: Annotated[
        Weight,
        EarlierVersions(0.0),
        meaning(
            "Weight of a loss that the paper does not have: the evaluator must not recognise the class in the rest of "
            "the image, I (1 - p^a). It keeps maps from being parts of objects, or evenly grey. It takes a further "
            "pass through the evaluator."
        ),
    ] = 1.0
    entropy: Annotated[
        Literal["weighted", "mean"],
        meaning("Entropy loss. weighted: L_w with a Gaussian of mu and sigma (eq. 14); mean: L_h (eq. 13, table 4)."),
    ] = "weighted"
    mu: Annotated[float, meaning("Centre of the Gaussian (eq. 15).")] = 0.5
    sigma: Annotated[float, Field(gt=0), meaning("Width of the Gaussian (eq. 15).")] = 0.1
    refine_shallow: Annotated[
        bool, meaning("Whether stage two trains the shallow layers too; false keeps them and their statistics.")
    ] = True
    upsampling: Annotated[
        Literal["nearest-exact", "bilinear"],
        meaning("How the map p^a is brought to the size of the image (code)."),
    ] = "nearest-exact"
    margin: Annotated[
        int,
        EarlierVersions(2),
        Field(ge=0),
        meaning(
            "Cells by which the image's border pixels are repeated around it when maps are made; they are cut off "
            "afterwards. Without, features of stride 4 take the padding's edge for an object; the paper has none (0)."
        ),
    ] = 0
    erase: Annotated[bool, EarlierVersions(True), meaning("Attentive erasing in stage two (section 3.2.2).")] = False
    erase_share: Annotated[Share, meaning("Share of the maps that are erased.")] = 1.0
    erase_probability: Annotated[
        Share | Literal["adaptive"],
        meaning("Probability that a candidate pixel is erased; adaptive: 0.2 + 0.6 p^a."),
    ] = 0.5
    erase_depth_least: Annotated[
        Share, meaning("Least depth d of the erasing threshold, peak - d (peak - minimum) (code).")
    ] = 0.0
    erase_depth: Annotated[Share, meaning("Greatest depth d; d is drawn uniformly (code).")] = 0.5
    erase_least: Annotated[
        Share,
        meaning(
            "Least side of the erased rectangle, as share of the map's side (code); the greatest is the extent of "
            "what exceeds the threshold."
        ),
    ] = 1 / 7

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        PAPER: {
            "shallow_stride": 4, "depth": 3, "contrast": 1.0, "stage_one": 0.7, "beta": 0.02, "rest": 0.0,
            "erase": True,
        }
    }  # fmt: skip

    @property
    def rate_of_stage_two(self) -> float:
        """The share of the learning rate that stage two begins with."""
        return 0.1 if self.preset == PAPER else 1.0

    @property
    def end_of_stage_one(self) -> float | None:
        """The share of the epochs after which stage two begins; None without stage two."""
        return self.stage_one if self.stage_one < 1 else None


@dataclass(frozen=True)
class SPGConfig:
    """Options of SPG."""

    preset: Annotated[
        Preset,
        EarlierVersions(PAPER),
        meaning(
            "pretrained: the defaults below, for a frozen backbone. paper: third_block false, width 1024, "
            "guidance_width 512, background none, and maps are cut at 0.35 of their range; the filters were designed "
            f"for InceptionV3. {OVERRIDDEN}"
        ),
    ] = "pretrained"
    b1: Annotated[Thresholds, meaning("delta_l, delta_h of eq. 1, for the mask that supervises B1.")] = (0.05, 0.5)
    b2: Annotated[Thresholds, meaning("delta_l, delta_h of eq. 1, for the mask that supervises B2.")] = (0.1, 0.7)
    fused: Annotated[Thresholds, meaning("delta_l, delta_h of eq. 1, for the mask that supervises C.")] = (0.1, 0.7)
    branches: Annotated[
        Literal["ABC", "AB", "A"],
        meaning("ABC: SPG; AB: without the auxiliary supervision of C; A: the paper's SPG-plain."),
    ] = "ABC"
    cascade: Annotated[
        bool, meaning("Whether B1 learns from the output of B2; otherwise both learn from the attention map.")
    ] = True
    shared: Annotated[bool, meaning("Whether B1 and B2 share their second and third layers.")] = True
    a3_layers: Annotated[Layers, meaning("3x3 convolutions between A2 and the class filters.")] = 2
    width: Annotated[Count, meaning("Filters of each of these convolutions.")] = 256
    c_layers: Annotated[
        Layers,
        EarlierVersions(2),
        meaning(
            "3x3 convolutions of C before its output: one in section 3.1, two in section 3.3. With one, SPG on "
            "InceptionV3 has the 38.45 M parameters that mLDFR's table V counts."
        ),
    ] = 1
    guidance_width: Annotated[Count, meaning("Filters of each convolution in B and C.")] = 128
    third_block: Annotated[
        bool, meaning("Whether the backbone's stages behind A2 are kept, before A3; the paper removes them.")
    ] = True
    dropout: Annotated[
        float,
        Field(ge=0, lt=1),
        meaning("Dropout before each convolution of A behind the backbone, in training; 0.5 in the released code."),
    ] = 0.0
    guidance_weight: Annotated[
        float, Field(ge=0), meaning("Weight of the losses of B1, B2 and C; the paper adds them unweighted.")
    ] = 1.0
    background: Annotated[
        Background,
        meaning(f"Of the maps that localize. {BACKGROUND} The maps that masks are made from are not changed."),
    ] = "mean"
    fewest_object_px: Annotated[
        int,
        Field(ge=0),
        meaning(
            "A mask with fewer object pixels takes those above `fallback` times its map's maximum. Not in the paper; "
            "the released code has 30."
        ),
    ] = 0
    fallback: Annotated[Share, meaning("See fewest_object_px.")] = 0.7

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        PAPER: {"third_block": False, "width": 1024, "guidance_width": 512, "background": "none"},
    }


@dataclass(frozen=True)
class TriLiteConfig:
    """Options of TriLite. Values that the paper does not give are those of the released code, marked (code)."""

    background_weight: Annotated[
        float,
        Field(ge=0),
        meaning(
            "Weight alpha of the adversarial background loss. The paper's training has 100 on CUB and 500 on ImageNet "
            "(code), where a class is one of hundreds."
        ),
    ] = 1.0
    regions: Annotated[
        Literal["three", "two"],
        meaning("three: foreground, background and ambiguous; two: without the ambiguous region."),
    ] = "three"
    kernel: Annotated[Kernel, meaning("Size of the convolution that makes the regions; odd (code).")] = 3
    dropout: Annotated[
        float,
        Field(ge=0, lt=1),
        meaning("Dropout on the vectors that are classified, in training; 0.5 on CUB, 0.25 on ImageNet (code)."),
    ] = 0.25


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
    "trilite": TriLiteConfig,
}
