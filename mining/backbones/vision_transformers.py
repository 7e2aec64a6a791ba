"""timm's plain vision transformers, split into four stages of blocks.

Plain are those whose tokens stay on one grid of patches from the first block to the last: ViT, DeiT, DINO, DINOv2, MAE,
CLIP and SigLIP (timm's VisionTransformer), and DINOv3 and EVA (timm's Eva). All stages have the stride of a patch.

- Images whose sides are no multiple of the patch are stretched to the nearest one, by half a patch at most, rather than
  padded: so the cells always divide the image evenly, see `Backbone.patch`.
- Learned positions are resampled to the grid of every image (bicubic with antialiasing, as in timm); rotary positions
  are computed for it.
- Class and register tokens are kept through all stages, see mining/backbones/tokens.py.
- The last stage ends with the network's final norm, applied to every token. Networks that average before this norm
  (MAE, BEiT's head) have it here too: tokens of unnormalised networks differ in scale by a factor of ten and more.
- The attention pooling of SigLIP and the projections of CLIP are not used.

Reference:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Oquab et al., "DINOv2", TMLR 2024; Darcet et al.,
    "Vision Transformers Need Registers", ICLR 2024; Simeoni et al., "DINOv3", 2025.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import StageSpec
from mining.backbones.tokens import Size, is_being_traced, pack_tokens, unpack_tokens, whole_patches

STAGES = 4


def is_plain_transformer(network: nn.Module) -> bool:
    """Whether a network of timm can be split by `split_transformer`."""
    net = cast(Any, network)
    if not isinstance(network, VisionTransformer | Eva) or type(net.patch_embed) is not PatchEmbed:
        return False
    # positions that each block learns for itself would have to be in several stages at once
    return not getattr(net, "rope_mixed", False) and all(net.patch_embed.patch_size)


def split_transformer(network: nn.Module, **input_format: Any) -> StageSpec:
    """Split a plain transformer of timm.

    Args:
        network: A network for which `is_plain_transformer` is true.
        input_format: Fields `mean`, `std` and `input_size` of the result.
    """
    net = cast(Any, network)
    blocks = list(net.blocks)
    count = min(STAGES, len(blocks))
    ends = [round(len(blocks) * (number + 1) / count) for number in range(count)]
    prefix, rope = int(net.num_prefix_tokens), getattr(net, "rope", None)
    stages: list[nn.Module] = []
    for start, end in zip([0, *ends], ends, strict=False):
        stem = PatchStem(net) if start == 0 else None
        norm = _final_norm(net) if end == len(blocks) else None
        stages.append(TransformerStage(stem, blocks[start:end], norm, rope, prefix))
    width, patch = int(net.embed_dim), cast(tuple[int, int], tuple(net.patch_embed.patch_size))
    return StageSpec(
        stages, (width,) * count, (max(patch),) * count, None, prefix_tokens=prefix,
        has_class_token=net.cls_token is not None, patch=patch, **input_format,
    )  # fmt: skip


def _final_norm(net: Any) -> nn.Module:
    """The norm behind the last block, or the one behind the pooling if there is none."""
    return cast(nn.Module, net.fc_norm if isinstance(net.norm, nn.Identity) else net.norm)


class TransformerStage(nn.Module):
    """Some blocks of a transformer, as a stage of a backbone.

    Args:
        stem: Makes tokens from images; None if the stage takes the features of another one.
        blocks: The blocks.
        norm: Applied to the tokens of the last stage; None for others.
        rope: timm's rotary positions; None if there are none.
        prefix: Number of class and register tokens.
    """

    def __init__(
        self, stem: "PatchStem | None", blocks: Sequence[nn.Module], norm: nn.Module | None, rope: Any, prefix: int
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.rope = rope
        self.prefix = prefix

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, D, r + h, w) features from normalised (B, 3, H, W) images, or from the stage before."""
        tokens, grid = unpack_tokens(features, self.prefix) if self.stem is None else self.stem(features)
        positions = {} if self.rope is None else {"rope": self.rope.get_embed(grid)}
        for block in self.blocks:
            tokens = block(tokens, **positions)
        if self.norm is not None:
            tokens = self.norm(tokens)
        return pack_tokens(tokens, grid, self.prefix)


class PatchStem(nn.Module):
    """Makes the tokens that the first block reads.

    Args:
        network: timm's network, whose layers and parameters are used.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.patch = cast(tuple[int, int], tuple(network.patch_embed.patch_size))
        self.grid = cast(tuple[int, int], tuple(network.patch_embed.grid_size))
        self.proj = network.patch_embed.proj
        self.patch_norm = network.patch_embed.norm
        self.cls_token = network.cls_token
        self.reg_token = getattr(network, "reg_token", None)
        self.dist_token = getattr(network, "dist_token", None)
        self.pos_embed = network.pos_embed
        self.embeds_patches_only = bool(network.no_embed_class)
        self.drop = network.pos_drop
        self.norm_pre = network.norm_pre

    def forward(self, images: Tensor) -> tuple[Tensor, Size]:
        """Compute (B, P + h w, D) tokens and (h, w) from normalised (B, 3, H, W) images."""
        patches = self.proj(self._stretch(images))
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = self.patch_norm(patches.flatten(2).transpose(1, 2))
        first = [token for token in (self.cls_token, self.dist_token, self.reg_token) if token is not None]
        prefix = [token.expand(len(tokens), -1, -1) for token in first]
        if self.pos_embed is None:
            tokens = torch.cat([*prefix, tokens], dim=1)
        elif self.embeds_patches_only:
            tokens = torch.cat([*prefix, tokens + self._positions(grid)], dim=1)
        else:
            tokens = torch.cat([*prefix, tokens], dim=1) + self._positions(grid)
        return self.norm_pre(self.drop(tokens)), grid

    def _stretch(self, images: Tensor) -> Tensor:
        """Resize images to whole patches."""
        height, width = images.shape[-2:]
        size = whole_patches((height, width), self.patch)
        if not is_being_traced() and size == (height, width):
            return images
        return functional.interpolate(images, size, mode="bilinear", align_corners=False)

    def _positions(self, grid: Size) -> Tensor:
        """Resample the learned positions: (1, h w, D), or (1, P + h w, D) if prefix tokens have positions too."""
        learned = self.pos_embed
        if not is_being_traced() and grid == self.grid:
            return cast(Tensor, learned)
        own = learned.shape[1] - self.grid[0] * self.grid[1]
        as_map = learned[:, own:].float().transpose(1, 2).unflatten(2, self.grid)
        resampled = functional.interpolate(as_map, grid, mode="bicubic", antialias=True, align_corners=False)
        patches = resampled.flatten(2).transpose(1, 2).to(learned.dtype)
        return torch.cat([learned[:, :own], patches], dim=1) if own else patches
