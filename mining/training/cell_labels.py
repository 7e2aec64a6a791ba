"""Which cells of an image are examples of a class or of the background, by the values of its class maps."""

import torch
from torch import Tensor

UNUSED = -1  # label of a cell that is no example


def label_cells(values: Tensor, classes: list[int], thresholds: tuple[float, float], background: int) -> Tensor:
    """Label the cells of an image, see `mining.training.cells.draw_examples`.

    A class without any activation leaves all cells unused.

    Args:
        values: (n, K) in 0-1.
        classes: K class indices.
        thresholds: Lowest value of the foreground, and highest of the background.
        background: Label of the background.

    Returns:
        (n,) int64; -1 for a cell that is no example.
    """
    labels = torch.full((len(values),), UNUSED)
    if not classes:  # an image that is known to show none of the classes
        return labels.fill_(background)
    if not bool((values > 0).any(dim=0).all()):
        return labels
    high, low = thresholds
    highest, position = values.max(dim=1)
    labels[highest < low] = background
    is_foreground = highest >= high
    labels[is_foreground] = torch.tensor(classes)[position[is_foreground]]
    return labels
