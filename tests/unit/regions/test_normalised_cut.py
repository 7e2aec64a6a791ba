import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from mining.regions.normalised_cut import MAX_CELLS, NormalisedCut


def three_parts(height: int = 8, width: int = 12) -> Tensor:
    """Features (1, 3, h, w) of an image of three columns of parts."""
    features = torch.zeros(1, 3, height, width)
    for part in range(3):
        features[:, part, :, part * width // 3 : (part + 1) * width // 3] = 1
    return features


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def point(row: int, column: int, height: int = 8, width: int = 12) -> Tensor:
    values = torch.zeros(1, 1, height, width)
    values[0, 0, row, column] = 1
    return values


@pytest.mark.parametrize("column", [1, 5, 10])
def test_a_point_of_a_part_seeds_the_whole_part(column: int) -> None:
    cut = NormalisedCut(three_parts()).spread(point(3, column))[0, 0]
    part = column // 4
    inside = cut[:, 4 * part : 4 * part + 4]
    outside = torch.cat([cut[:, : 4 * part], cut[:, 4 * part + 4 :]], dim=1)
    assert torch.allclose(inside, inside.mean().expand_as(inside), rtol=1e-3)
    assert (inside > 0).all()
    assert (outside < 0.01 * inside.max()).all()


def test_each_class_has_the_part_that_its_map_shows() -> None:
    seeds = torch.cat([point(0, 0), point(7, 11)], dim=1)
    first, second = NormalisedCut(three_parts()).spread(seeds)[0]
    assert bool((first[:, :4] > 0).all() and (first[:, 8:] <= 0).all())
    assert bool((second[:, 8:] > 0).all() and (second[:, :4] <= 0).all())


def test_one_vector_gives_the_second_smallest_of_the_generalised_problem() -> None:
    """As in TokenCut, with the side on which the map is higher as foreground."""
    features = noise(1, 5, 6, 7) + 2 * three_parts(6, 9)[:, [0, 1, 2, 0, 1], :, :7]
    cells = torch.nn.functional.normalize(features.flatten(2)[0].T.double(), dim=1).numpy()
    edges = np.where(cells @ cells.T > 0.2, 1.0, 1e-5)
    degree = np.diag(edges.sum(axis=1))
    vector = scipy.linalg.eigh(degree - edges, degree, subset_by_index=[1, 1])[1][:, 0]
    seed = point(2, 1, 6, 7)
    found = NormalisedCut(features, vectors=1).spread(seed)[0, 0].flatten().double().numpy()
    expected = vector * np.sign(vector[2 * 7 + 1])
    assert np.allclose(found / np.abs(found).max(), expected / np.abs(expected).max(), atol=1e-5)


def test_the_sum_over_eigenvectors_is_that_of_the_paper() -> None:
    features, seed = noise(1, 4, 5, 6), torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(1))
    cells = torch.nn.functional.normalize(features.flatten(2)[0].T.double(), dim=1).numpy()
    edges = np.where(cells @ cells.T > 0.1, 1.0, 1e-5)
    degree = np.diag(edges.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degree - edges, degree, subset_by_index=[1, 6])
    gamma = values.mean()
    s = seed.flatten().double().numpy()
    expected = sum(u * (u @ degree @ s) / (value + gamma) for value, u in zip(values, vectors.T, strict=True))
    found = NormalisedCut(features, tau=0.1, vectors=6).spread(seed).flatten().double().numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_the_same_features_give_the_same_bits() -> None:
    features, values = noise(2, 16, 14, 19), noise(2, 3, 14, 19)
    first = NormalisedCut(features).spread(values)
    assert torch.equal(first, NormalisedCut(features.clone()).spread(values.clone()))
    alone = torch.cat([NormalisedCut(features[i : i + 1]).spread(values[i : i + 1]) for i in range(2)])
    assert torch.allclose(first, alone, atol=1e-6)


def test_a_constant_map_seeds_nothing() -> None:
    cut = NormalisedCut(noise(1, 8, 6, 8)).spread(torch.full((1, 1, 6, 8), 0.7))
    assert cut.abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2)])
def test_few_cells_and_no_maps_are_fine(size: tuple[int, int]) -> None:
    cut = NormalisedCut(noise(1, 4, *size))
    assert cut.spread(torch.rand(1, 2, *size)).isfinite().all()
    assert cut.spread(torch.zeros(1, 0, *size)).shape == (1, 0, *size)
    assert NormalisedCut(torch.zeros(1, 4, *size)).spread(torch.ones(1, 1, *size)).isfinite().all()


def test_large_maps_are_cut_on_a_coarser_grid() -> None:
    height, width = 36, 48
    assert height * width > MAX_CELLS
    cut = NormalisedCut(three_parts(height, width)).spread(point(20, 20, height, width))[0, 0]
    assert cut.shape == (height, width)
    assert (cut[:, 18:30] > 0).all()
    assert (cut[:, :12] <= 0.01 * cut.max()).all()
