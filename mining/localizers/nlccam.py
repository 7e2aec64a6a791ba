"""NL-CCAM: combinational class activation maps and non-local blocks.

The map of a class is a weighted sum of the maps of all classes, from the most to the least probable one, so that what
supports improbable classes is subtracted as background (CCAM, section 3.1). Non-local blocks between the stages of the
network let every place use the features of every other place (section 3.3).

The paper reports, with VGG16 at 224 px, localization errors on ILSVRC of 49.83 % top-1, 39.31 % top-5 and 34.77 % with
known class; on CUB-200-2011 47.60 % top-1 and 34.97 % top-5 (tables 3 to 5). Its VGGnet-CCAM, the same network without
blocks, has 51.78 % and 49.93 % top-1: NLCCAM with option after='none' on VGG16, where a convolution with 1024 channels
is added. CCAM here adds nothing to the network. The paper trains at a learning rate of 0.0001, 30 epochs of batches of
32, random crops of 224 px from 256 x 256.

Differences from the paper, and from the released code where the paper leaves something open:

- Eq. 6 prints -1 for k >= j. Table 6's "bottom-j" are the j last ranks, k > K - j, which is what is done here.
- The paper ranks by probability, for one class per image. Here the class that is asked for has rank 1 and the others
  follow by probability, so that two classes of an image have two maps. The released code does so for top-1 only; its
  polynomials ignore the class (`first: predicted`). With many classes a polynomial differs little either way: moving a
  class to the front changes the weights of the others by about degree / K.
- Eq. 5 as the released code writes it out for 200 classes is slightly off: it has an exact 0 at the end of one half of
  the ranks and another at the start of the other half. Here it is as printed, for any number of classes.
- C' of section 3.3 is not given; a factor of 8 below C is that of the released code and of the paper's reference [27].
- The softmax of eq. 7 is over the places that eq. 8 sums over; its scores are not scaled.
- Boxes: the paper cuts at 20 % of the maximum, as the CAM paper (section 4.1); here CCAM at 25 % and NLCCAM at 35 %,
  which were better on the training photos of two sets with EfficientNet-Lite0. The released code cuts at 12 % of the
  map's range above its minimum (`normalise: minmax`, `threshold: 0.12`), and then again at the mean.
- "Before every bottleneck layer excluding the first" is read as before each pooling, thus at the end of each stage but
  the first. The released code has the blocks after pooling (`pooling: after`). It also replaces VGG's ReLU by
  LeakyReLU(0.2), has no convolution behind conv5_3 (`convolution: 0`) and a bias in its head (`bias: true`).

Reference:
    Yang, Kim, Kim, Kim, "Combinational Class Activation Maps for Weakly Supervised Object Localization", WACV 2020.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.errors import ModelError
from mining.localizers.base import ClassChoice, Explanation, Localization, chosen_classes
from mining.localizers.classifier import Classifier
from mining.localizers.option_values import build_config
from mining.localizers.options import CCAMConfig, NLCCAMConfig

VGGNET_GAP_CHANNELS = 1024
CLASSES_PER_BOTTOM_RANK = 100  # the paper subtracts the 10 last of ImageNet's 1000 classes
SHOWN_RANKS = 3  # at either end


# --- combination functions (section 3.2) -----------------------------------------------------------------------------


def polynomial_weights(classes: int, degree: float, pivot: float | None = None) -> Tensor:
    """Compute (K,) float64 weights by rank, most probable first: 1 at rank 1, falling to -1 at rank K (eq. 5)."""
    rank = torch.arange(1, classes + 1, dtype=torch.float64)
    p = (classes + 1) / 2 if pivot is None else pivot
    # where a half has a single rank, eq. 5 is 0 / 0, with the limit 1
    foreground = (p - rank) / (p - 1) if p > 1 else torch.ones_like(rank)
    background = (rank - p) / (classes - p) if p < classes else torch.ones_like(rank)
    return torch.where(rank <= p, foreground.clamp(min=0) ** degree, -(background.clamp(min=0) ** degree))


def top_bottom_weights(classes: int, top: int, bottom: int) -> Tensor:
    """Compute (K,) float64 weights by rank: 1 for the first `top`, -1 for the last `bottom`, else 0 (eq. 6)."""
    weights = torch.zeros(classes, dtype=torch.float64)
    weights[max(0, classes - bottom) :] = -1
    weights[:top] = 1
    return weights


def weights_by_rank(config: CCAMConfig, classes: int) -> Tensor:
    """Compute the combination function g, (K,) float64.

    Raises:
        ModelError: It is 0 everywhere.
    """
    if config.function == "polynomial":
        return polynomial_weights(classes, config.degree, config.pivot)
    bottom = max(1, classes // CLASSES_PER_BOTTOM_RANK) if config.bottom is None else config.bottom
    if config.top == bottom == 0:
        raise ModelError("Options 'top' and 'bottom' of the localizer are both 0, which leaves no map to combine.")
    return top_bottom_weights(classes, config.top, bottom)


def ranks_of(logits: Tensor) -> Tensor:
    """Rank (B, K) logits: each class's place in the order of falling probability, 0 for the most probable."""
    return logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def ranks_from(asked: Tensor, ranks: Tensor) -> Tensor:
    """Move the class asked for to rank 0; the others follow in their order.

    Args:
        asked: (B, A) int64 classes, NO_CLASS as padding.
        ranks: (B, K) int64.

    Returns:
        (B, A, K) int64.
    """
    asked = asked.clamp(min=0)
    own = ranks.gather(1, asked)[:, :, None]
    others = ranks[:, None, :]
    return torch.where(others < own, others + 1, others).scatter(2, asked[:, :, None], 0)


def ranks_shown(classes: int) -> list[int]:
    """Return the ranks, from 0, that explain a combination: all of few, the first and the last ones of many."""
    if classes <= 2 * SHOWN_RANKS:
        return list(range(classes))
    return [*range(SHOWN_RANKS), *range(classes - SHOWN_RANKS, classes)]


def combined_maps(features: Tensor, kernel: Tensor, shares: Tensor) -> Tensor:
    """Compute the maps M_ccam = sum_k g(k) M_ck (eq. 4), at the cost of A maps rather than K.

    Args:
        features: (B, N, h, w).
        kernel: (K, N), the weights of each class.
        shares: (B, A, K), g of each class's rank.

    Returns:
        (B, A, h, w).
    """
    # sum_k g(k) sum_n w_n,ck f_n = sum_n (sum_k g(k) w_n,ck) f_n (eq. 3 into eq. 4, sums exchanged)
    return torch.einsum("ban,bnhw->bahw", shares @ kernel, features)


# --- the non-local block (section 3.3) -------------------------------------------------------------------------------


class NonLocalBlock(nn.Module):
    """Adds to each place the features of the places that resemble it; initialised as identity.

    Args:
        channels: C.
        embedding: C'.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        # no bias where the softmax (f) or the batch norm (h and k) would cancel it
        self.f = nn.Conv2d(channels, embedding, kernel_size=1, bias=False)
        self.g = nn.Conv2d(channels, embedding, kernel_size=1)
        self.h = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.k = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        # "initialised as zero" (section 4.1): the pretrained network is unchanged at first
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Transform (B, C, H, W) features; shape and dtype stay the same."""
        # unscaled scores overflow in half precision
        with torch.autocast(features.device.type, enabled=False):
            x = features.to(self.k.weight.dtype)
            attended = attention(self.f(x), self.g(x), self.h(x))
            z = self.norm(self.k(attended))  # eq. 8
            return (z + x).to(features.dtype)  # eq. 9


def attention(f: Tensor, g: Tensor, h: Tensor) -> Tensor:
    """Compute h alpha of eq. 8, alpha = softmax(f^T g) (eq. 7): at each place the weighted mean of h over all places.

    The HW x HW matrix is not stored, so that memory grows with HW only.

    Args:
        f: (B, C', H, W), with C' at most C.
        g: (B, C', H, W).
        h: (B, C, H, W).

    Returns:
        (B, C, H, W).
    """
    keys, queries, values = (part.flatten(2).transpose(1, 2)[:, None].contiguous() for part in (f, g, h))
    # zeros change no product, and the kernels that avoid the matrix need one width for all three
    missing = (0, values.shape[-1] - keys.shape[-1])
    mean = functional.scaled_dot_product_attention(
        functional.pad(queries, missing), functional.pad(keys, missing), values, scale=1.0
    )
    return mean[:, 0].transpose(1, 2).reshape(h.shape)


# --- the localizers --------------------------------------------------------------------------------------------------


class CombinationalClassifier(Classifier):
    """A classifier whose maps combine those of all its classes.

    Attributes:
        shares: (K,) g of each rank; not among the weights, so that a trained model can use another function.
    """

    config: CCAMConfig
    shares: Tensor

    def __init__(
        self, backbone: Backbone, classes: int, config: CCAMConfig, *, bias: bool = True, channels: int | None = None
    ) -> None:
        super().__init__(backbone, classes, bias=bias, dropout=config.dropout, channels=channels)
        self.config = config
        self.register_buffer("shares", weights_by_rank(config, classes).float(), persistent=False)

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits and the combined maps of the classes asked for, in one pass."""
        features = self.last_features(images)
        logits = self.logits(features).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        # differences of many class maps need more than half precision
        with torch.autocast(features.device.type, enabled=False):
            kernel = self.classifier.weight.flatten(1)
            maps = combined_maps(features.to(kernel.dtype), kernel, self.shares[self._ranks(logits, wanted)])
        return Localization(logits, wanted, maps.float())

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Map the classes of the first and the last ranks one by one, and combine the maps of all (Fig. 4)."""
        features = self.last_features(images)
        ranks = self._ranks(self.logits(features).float(), classes)
        kernel = self.classifier.weight.flatten(1)
        by_rank = ranks.argsort(dim=2)  # (B, A, K), the class of each rank
        shown = {}
        for rank in ranks_shown(len(kernel)):
            of_rank = by_rank[:, :, rank]
            maps = torch.einsum("bac,bchw->bahw", kernel[of_rank], features).float()
            weight = float(self.shares[rank])
            shown[f"rank {rank + 1} of {len(kernel)}, weight {weight:.2g}"] = Explanation(maps, "relative", of_rank)
        combined = combined_maps(features, kernel, self.shares[ranks]).float()
        return shown | {"combined": Explanation(combined)}

    def _ranks(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """(B, A, K) int64, 0-based: of each class, for each class wanted."""
        ranks = ranks_of(logits)
        if self.config.first == "predicted":
            return ranks[:, None, :].expand(-1, wanted.shape[1], -1)
        return ranks_from(wanted, ranks)


class CCAM(CombinationalClassifier):
    """Combinational maps of any classifier; options in CCAMConfig."""

    Config: ClassVar[type[Any]] = CCAMConfig
    name: ClassVar[str] = "ccam"

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__(backbone, classes, build_config(CCAMConfig, options))


class NLCCAM(CombinationalClassifier):
    """Combinational maps of a network with non-local blocks between its stages; options in NLCCAMConfig.

    Without blocks (after='none') it is, on VGG16, the paper's VGGnet-CCAM.
    """

    Config: ClassVar[type[Any]] = NLCCAMConfig
    name: ClassVar[str] = "nlccam"
    trains_on_features: ClassVar[bool] = False  # blocks lie between the stages

    config: NLCCAMConfig

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config = build_config(NLCCAMConfig, options)
        last = backbone.channels[-1]
        added = _added_channels(config, backbone)
        super().__init__(backbone, classes, config, bias=config.bias, channels=added or last)
        self.blocks = nn.ModuleDict(
            {str(stage): _block(backbone.channels[stage - 1], config) for stage in _stages_followed(config, backbone)}
        )
        self.added = nn.Sequential(nn.Conv2d(last, added, kernel_size=3, padding=1), nn.ReLU()) if added else None

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of every stage, and of the added convolution if any."""
        features = self.backbone.normalise(images)
        collected = []
        for modules in self._in_order():
            for module in modules:
                features = self._transform_cells(module, features) if _is_block(module) else module(features)
            collected.append(self.backbone.cells_of(features))
        return collected if self.added is None else [*collected, self.added(collected[-1])]

    def _transform_cells(self, block: nn.Module, features: Tensor) -> Tensor:
        return self.backbone.with_cells(features, block(self.backbone.cells_of(features)))

    def _in_order(self) -> list[list[nn.Module]]:
        """The modules stage by stage, with the blocks at their places."""
        stages = list(self.backbone.stages)
        order = [[stage] for stage in stages]
        for key, block in self.blocks.items():
            number = int(key)
            following = _layers(stages[number]) if number < len(stages) else []
            if self.config.pooling == "after" and following and isinstance(following[0], nn.MaxPool2d):
                order[number] = [following[0], block, *following[1:]]
            else:
                order[number - 1].append(block)
        return order

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the optimizer's groups: new layers at the full rate, an unfrozen backbone at its share of it."""
        new, *old = super().parameter_groups(learning_rate)
        return [new, *({**group, "lr": learning_rate * self.config.backbone_rate} for group in old)]


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, NonLocalBlock)


def _layers(stage: nn.Module) -> list[nn.Module]:
    return list(stage) if isinstance(stage, nn.Sequential) else [stage]


def _block(channels: int, config: NLCCAMConfig) -> NonLocalBlock:
    return NonLocalBlock(channels, max(1, channels // config.reduction))


def _stages_followed(config: NLCCAMConfig, backbone: Backbone) -> list[int]:
    """The stages, from 1, that a block follows, in order."""
    count = len(backbone.stages)
    if config.after is None:
        return list(range(min(2, count), count + 1))
    wrong = [stage for stage in config.after if not 1 <= stage <= count]
    if wrong:
        raise ModelError(
            f"Option 'after' of the localizer: there is no stage {wrong[0]}; {backbone.name} has stages 1 to {count}."
        )
    return sorted(set(config.after))


def _added_channels(config: NLCCAMConfig, backbone: Backbone) -> int:
    if config.convolution is not None:
        return config.convolution
    return VGGNET_GAP_CHANNELS if backbone.name.startswith("vgg") else 0
