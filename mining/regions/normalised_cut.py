"""Refine activation maps by normalised cuts of a graph of cells with similar features, seeded by the maps.

As in TokenCut, all cells of an image are nodes, and two cells are joined by an edge of weight 1 if the cosine of their
features exceeds tau, otherwise by one of nearly 0. The eigenvectors of (D - W) y = lambda D y with the smallest
eigenvalues vary slowly within parts of the image that resemble each other. TokenCut takes the second one and cuts it
at its mean; the eigenvector does not say which side is the object, nor of which class.

Here the class map says it. Biased normalised cuts weigh each eigenvector u_i by its correlation with a seed s, here the
class map, and by 1 / (lambda_i + gamma), which prefers the cuts that sever little:

    x = sum_i u_i (u_i^T D s) / (lambda_i + gamma)

With a single eigenvector, x is TokenCut's, with the side on which the map is higher as foreground.

Reference:
    Wang, Shen, Hu, Yuan, Crowley, Vaufreydaz, "TokenCut: Segmenting Objects in Images and Videos with Self-Supervised
    Transformer and Normalized Cut", TPAMI 2023. Maji, Vishnoi, Malik, "Biased Normalized Cuts", CVPR 2011. Shi, Malik,
    "Normalized Cuts and Image Segmentation", TPAMI 2000.
"""

import torch
from torch import Tensor
from torch.nn import functional

TAU = 0.2  # TokenCut's
VECTORS = 12  # one, as in TokenCut, finds 35 % instead of 51 % of the objects in VOC's training photos, 30 find 52 %
MAX_CELLS = 1000  # the time grows with the third power: 25 ms for 441 cells, 52 for 588, 165 for 840 on one core
_NO_EDGE = 1e-5  # TokenCut's; keeps the graph connected
_SEVERS = 0.999


class NormalisedCut:
    """The eigenvectors of the graphs of a batch of feature maps, in float64.

    Maps with more than MAX_CELLS cells are averaged to coarser ones.

    Args:
        features: (B, D, h, w) float32; channels of comparable variance, because the cosine weighs them by it.
        tau: Cells are joined if the cosine of their features exceeds it.
        vectors: Number of eigenvectors, from the second smallest eigenvalue on.
    """

    def __init__(self, features: Tensor, *, tau: float = TAU, vectors: int = VECTORS) -> None:
        self._size = _coarse_size(features.shape[-2], features.shape[-1])
        coarse = features if features.shape[2:] == self._size else functional.adaptive_avg_pool2d(features, self._size)
        cells = functional.normalize(coarse.flatten(2).transpose(1, 2).double(), dim=2)
        edges = (cells @ cells.transpose(1, 2) > tau).double().clamp_min(_NO_EDGE)
        self._degree = edges.sum(dim=2)
        root = self._degree.rsqrt()
        # the eigenvectors of D^-1/2 W D^-1/2 are D^1/2 y, its eigenvalues 1 - lambda; the greatest come last
        values, scaled = torch.linalg.eigh(root[:, :, None] * edges * root[:, None, :])
        count = min(vectors, values.shape[1] - 1)
        values = (1 - values[:, -1 - count : -1]).clamp_min(0)
        gamma = values.mean(dim=1, keepdim=True).clamp_min(_NO_EDGE)
        # eigenvectors of 1 sever nothing: they differ within a part of identical features, in an arbitrary way
        self._weights = torch.where(values < _SEVERS, 1 / (values + gamma), 0)
        self._vectors = scaled[:, :, -1 - count : -1] * root[:, :, None]

    def spread(self, values: Tensor) -> Tensor:
        """Replace each map by the biased normalised cut that it seeds.

        Args:
            values: (B, K, h, w) float32.

        Returns:
            (B, K, h, w) float32; negative where the map's object is not, 0 for a constant map.
        """
        batch, count, *size = values.shape
        if not count:
            return values
        seed = functional.adaptive_avg_pool2d(values, self._size).flatten(2).double()
        correlation = (seed * self._degree[:, None]) @ self._vectors
        cut = (correlation * self._weights[:, None]) @ self._vectors.transpose(1, 2)
        maps = cut.reshape(batch, count, *self._size).float()
        return maps if tuple(size) == self._size else functional.interpolate(maps, size, mode="bilinear")


def _coarse_size(height: int, width: int) -> tuple[int, int]:
    """The size divided by the smallest whole number that leaves at most MAX_CELLS cells."""
    factor = 1
    while -(-height // factor) * -(-width // factor) > MAX_CELLS:
        factor += 1
    return -(-height // factor), -(-width // factor)
