"""The classes of a card and the outputs of its network, which are more where classes were selected or merged."""

import torch
from torch import Tensor

from mining.localizers.base import pad_classes, probabilities
from mining.models.card import ModelCard


def class_probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    """Convert the network's logits to probabilities of the card's classes.

    A class of several outputs has the highest of their probabilities, not the sum: so its score is at least that of
    each of them, and thresholds mean the same however many outputs are merged. Classes that are left out stay in
    the softmax, so that the probabilities do not depend on what is selected.

    Args:
        logits: (B, card.output_count).
        card: The model's card.

    Returns:
        (B, C).
    """
    scores = probabilities(logits, card.objective)
    if card.selection is None:
        return scores
    return torch.stack([scores[:, outputs].amax(dim=1) for outputs in card.selection.outputs], dim=1)


def choose_outputs(classes: list[list[int]], logits: Tensor, card: ModelCard) -> Tensor:
    """Choose the output whose map is that of each class: the most probable one of the image.

    Args:
        classes: Per image, indices of the card's classes.
        logits: (B, card.output_count).
        card: The model's card.

    Returns:
        (B, K) int64 output indices, NO_CLASS as padding.
    """
    if card.selection is None:
        return pad_classes(classes)
    groups = card.selection.outputs
    chosen = []
    for scores, indices in zip(logits.detach().float().cpu().tolist(), classes, strict=True):
        chosen.append([max(groups[index], key=scores.__getitem__) for index in indices])
    return pad_classes(chosen)


def class_of_output(card: ModelCard) -> dict[int, int]:
    """Return the index of the class that each output belongs to; outputs that are left out have none."""
    if card.selection is None:
        return {index: index for index in range(len(card.classes))}
    return {output: index for index, outputs in enumerate(card.selection.outputs) for output in outputs}
