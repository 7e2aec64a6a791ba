"""The classes of a card and the outputs of its network, which are more where classes were selected or merged.

The class `object` stands for whatever an image shows, where no class is probable enough. It has no output of its own:
its map is that of the most probable outputs together. What the classifier takes for a horse or a cow is the same
region, and is an object even if it is neither.
"""

import torch
from torch import Tensor

from mining.localizers.base import pad_classes, probabilities
from mining.models.card import ModelCard

# Most probable outputs whose maps together are the map of the class `object`. From 1 to 20 of ImageNet's classes, 48 to
# 52 % of the best boxes are on an object, on VOC photos in which no class is probable.
OBJECT_OUTPUTS = 5


def class_probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    """Convert the network's logits to probabilities of the card's classes.

    A class of several outputs has the highest of their probabilities, not the sum: so its score is at least that of
    each of them, and thresholds mean the same however many outputs are merged. Classes that are left out stay in
    the softmax, so that the probabilities do not depend on what is selected.

    Args:
        logits: (B, card.output_count).
        card: The model's card.

    Returns:
        (B, C), without a column for the class `object`, which is the last one.
    """
    scores = probabilities(logits, card.objective)
    if card.selection is None:
        return scores
    return torch.stack([scores[:, outputs].amax(dim=1) for outputs in card.selection.outputs if outputs], dim=1)


def object_weights(logits: Tensor, card: ModelCard) -> Tensor:
    """Return the probabilities of the outputs that the class `object` is mapped by, highest first.

    Args:
        logits: (card.output_count,) of one image.
        card: The model's card.

    Returns:
        (K,), at most OBJECT_OUTPUTS.
    """
    scores = probabilities(logits[None], card.objective)[0]
    return scores.topk(min(OBJECT_OUTPUTS, len(scores))).values


def object_probability(logits: Tensor, card: ModelCard) -> float:
    """Return the probability that an image shows one of the classes that `object` is mapped by; see `object_weights`.

    For a model of several classes per image, as if these were independent.
    """
    weights = object_weights(logits, card)
    return float(weights.sum() if card.objective == "single" else 1 - (1 - weights).prod())


def choose_outputs(classes: list[list[int]], logits: Tensor, card: ModelCard) -> Tensor:
    """Choose the output whose map is that of each class: the most probable one of the image.

    Args:
        classes: Per image, indices of the card's classes; that of `object` alone, or not at all.
        logits: (B, card.output_count).
        card: The model's card.

    Returns:
        (B, K) int64 output indices, NO_CLASS as padding; for `object`, those of its `object_weights`.
    """
    if card.selection is None:
        return pad_classes(classes)
    groups = card.selection.outputs
    chosen = []
    for scores, indices in zip(logits.detach().float().cpu(), classes, strict=True):
        if indices == [card.object_index]:
            chosen.append(scores.topk(min(OBJECT_OUTPUTS, len(scores))).indices.tolist())
        else:
            values = scores.tolist()
            chosen.append([max(groups[index], key=values.__getitem__) for index in indices])
    return pad_classes(chosen)


def class_of_output(card: ModelCard) -> dict[int, int]:
    """Return the index of the class that each output belongs to; outputs that are left out have none."""
    if card.selection is None:
        return {index: index for index in range(len(card.classes))}
    return {output: index for index, outputs in enumerate(card.selection.outputs) for output in outputs}
