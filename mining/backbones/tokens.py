"""Feature maps of transformers: patch tokens as cells, with the class and register tokens in rows above them.

A transformer passes more from block to block than its patch tokens: the class token and register tokens ("prefix
tokens") belong to no place of the image, but later blocks read them. So that a stage still takes and returns one
tensor, they are kept in additional rows at the top of the map. A map of w columns with P prefix tokens has ceil(P / w)
such rows, the last one filled up with zeros. Without prefix tokens nothing is added, as in convolutional networks.
"""

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]


def prefix_rows(width: int, prefix: int) -> int:
    """Return the number of rows that `prefix` tokens take in a map of `width` columns."""
    return (prefix + width - 1) // width


def pack_tokens(tokens: Tensor, grid: Size, prefix: int) -> Tensor:
    """Arrange tokens as a map.

    Args:
        tokens: (B, prefix + h w, D), prefix tokens first.
        grid: (h, w).
        prefix: Number of prefix tokens.

    Returns:
        (B, D, r + h, w), with r as in `prefix_rows`.
    """
    height, width = grid
    rows = prefix_rows(width, prefix)
    if prefix:
        above = functional.pad(tokens[:, :prefix], (0, 0, 0, rows * width - prefix))
        tokens = torch.cat([above, tokens[:, prefix:]], dim=1)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows + height, width)


def unpack_tokens(features: Tensor, prefix: int) -> tuple[Tensor, Size]:
    """Return the (B, prefix + h w, D) tokens and the (h, w) of a map that `pack_tokens` made."""
    height, width = features.shape[-2:]
    rows = prefix_rows(width, prefix)
    tokens = features.flatten(2).transpose(1, 2)
    if prefix:
        tokens = torch.cat([tokens[:, :prefix], tokens[:, rows * width :]], dim=1)
    return tokens, (height - rows, width)


def cells_of(features: Tensor, prefix: int) -> Tensor:
    """Return the (B, D, h, w) patch tokens of a (B, D, r + h, w) map."""
    return features[:, :, prefix_rows(features.shape[-1], prefix) :] if prefix else features


def prefix_of(features: Tensor, prefix: int) -> Tensor:
    """Return the (B, prefix, D) class and register tokens of a (B, D, r + h, w) map."""
    rows = prefix_rows(features.shape[-1], prefix)
    return features[:, :, :rows].flatten(2)[:, :, :prefix].transpose(1, 2)


def with_cells(features: Tensor, cells: Tensor, prefix: int) -> Tensor:
    """Replace the patch tokens of a (B, D, r + h, w) map by (B, D, h, w) others."""
    if not prefix:
        return cells
    return torch.cat([features[:, :, : prefix_rows(features.shape[-1], prefix)], cells], dim=2)


def whole_patches(size: Size, patch: Size) -> Size:
    """Return the height and width in px that an image of this size is stretched to, so that it has whole patches."""
    return _nearest_multiple(size[0], patch[0]), _nearest_multiple(size[1], patch[1])


def _nearest_multiple(side: int, step: int) -> int:
    count = (side + step // 2) // step
    # a comparison would fix the traced number to that of the example, which has a patch at least
    return (count if is_being_traced() else max(1, count)) * step


def is_being_traced() -> bool:
    """Whether a runtime is recording the operations, which then must not depend on the size of its example."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
