import numpy as np
import pytest
import torch
from torch import Tensor

from mining.regions.refinement import AffinityWalk, scale_to_peak


def two_halves(height: int = 6, width: int = 8) -> Tensor:
    """Features (1, 3, h, w) of an image whose left half differs from its right half."""
    features = torch.zeros(1, 3, height, width)
    features[:, 0, :, : width // 2] = 1
    features[:, 1, :, width // 2 :] = 1
    return features


def dense_walk(features: Tensor, values: Tensor, steps: int, radius: int, power: int) -> Tensor:
    """The same walk by one dense matrix over all pairs of cells."""
    _, height, width = features.shape
    cells = features.flatten(1).T.double().numpy()
    cells = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    rows, columns = (grid.ravel() for grid in np.mgrid[:height, :width])
    is_near = (abs(rows[:, None] - rows) <= radius) & (abs(columns[:, None] - columns) <= radius)
    transition = np.maximum(cells @ cells.T, 0) ** power * is_near
    transition /= transition.sum(axis=1, keepdims=True)
    spread = np.linalg.matrix_power(transition, steps) @ values.flatten(1).T.double().numpy()
    return torch.from_numpy(spread.T.reshape(values.shape))


@pytest.mark.parametrize(("height", "width"), [(7, 9), (3, 12), (1, 6), (12, 3), (1, 1)])
@pytest.mark.parametrize("radius", [1, 5])
def test_the_walk_equals_the_dense_transition_matrix(height: int, width: int, radius: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 16, height, width, generator=generator)
    values = torch.rand(2, 3, height, width, generator=generator)
    spread = AffinityWalk(features, radius=radius, power=4).spread(values, 5)
    for image in range(2):
        expected = dense_walk(features[image], values[image], 5, radius, 4)
        assert torch.allclose(spread[image].double(), expected, atol=1e-6)


def test_activation_stays_within_a_boundary_of_the_features() -> None:
    values = torch.zeros(1, 1, 6, 8)
    values[0, 0, 3, 1] = 1
    spread = AffinityWalk(two_halves()).spread(values, 12)[0, 0]
    assert (spread[:, :4] > 0).all()
    assert (spread[:, 4:] == 0).all()


def test_a_constant_map_stays_constant() -> None:
    features = torch.randn(1, 8, 9, 11, generator=torch.manual_seed(0))
    spread = AffinityWalk(features).spread(torch.full((1, 2, 9, 11), 0.7), 8)
    assert torch.allclose(spread, torch.tensor(0.7), atol=1e-6)


def test_a_walk_of_no_steps_changes_nothing() -> None:
    values = torch.rand(1, 2, 6, 8, generator=torch.manual_seed(0))
    assert torch.equal(AffinityWalk(two_halves()).spread(values, 0), values)


def test_cells_without_features_give_no_nan() -> None:
    spread = AffinityWalk(torch.zeros(1, 4, 3, 3)).spread(torch.ones(1, 1, 3, 3), 3)
    assert torch.equal(spread, torch.zeros(1, 1, 3, 3))


def test_no_maps_give_no_maps() -> None:
    assert AffinityWalk(two_halves()).spread(torch.zeros(1, 0, 6, 8), 3).shape == (1, 0, 6, 8)


def test_a_map_is_divided_by_its_own_peak() -> None:
    values = torch.tensor([[[[-1.0, 2.0]], [[0.0, 8.0]], [[-3.0, -1.0]]]])
    assert scale_to_peak(values).tolist() == [[[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 0.0]]]]
