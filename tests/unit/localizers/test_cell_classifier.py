import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.localizers.base import NO_CLASS
from mining.localizers.cam import CAM
from mining.localizers.cell_classifier import (
    LAST_COMPONENTS,
    MIDDLE_COMPONENTS,
    CellClassifier,
    Projection,
    affinity_features,
    build_cell_classifier,
    cell_spec,
)
from mining.localizers.map_refiner import MapRefiner, feature_scale
from mining.localizers.options import CellSpec
from mining.localizers.ornet import ORNet
from mining.localizers.pyramid import localize_pyramid
from mining.localizers.stage_recorder import StageRecorder


def backbone(*channels: int) -> Backbone:
    """A network of stages of stride 2."""
    torch.manual_seed(0)
    inputs = (3, *channels[:-1])
    stages = [
        nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.ReLU())
        for before, after in zip(inputs, channels, strict=True)
    ]
    strides = [2 ** (number + 1) for number in range(len(channels))]
    return Backbone("small", StageSpec(stages, channels, strides, classifier=None))


def images(side: int = 64, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# --- shape -----------------------------------------------------------------------------------------------------------


def test_the_last_stage_and_the_two_before_it_are_read() -> None:
    spec = cell_spec(backbone(8, 16, 24, 200, 300))
    assert spec == CellSpec([4, 3, 2], [LAST_COMPONENTS, MIDDLE_COMPONENTS, 24])


def test_a_backbone_of_one_stage_is_read_by_its_last_stage_alone() -> None:
    one = backbone(12)
    cells = build_cell_classifier(one, 3, cell_spec(one))
    projected = cells.project(one(images()))
    assert cells.spec == CellSpec([0], [12])
    assert torch.equal(affinity_features(projected), projected[0])


# --- projections -----------------------------------------------------------------------------------------------------


def correlated_cells(count: int = 4000, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels, channels, generator=generator)
    return torch.randn(count, channels, generator=generator) @ mixing * 3 + 5


def project(projection: Projection, cells: Tensor) -> Tensor:
    with torch.no_grad():
        return projection(cells.T[None, :, None])[0, :, 0].T


def test_whitened_components_are_uncorrelated_and_of_variance_one() -> None:
    cells = correlated_cells()
    projection = Projection(6, 4)
    projection.fit(cells, whiten=True)
    assert torch.allclose(torch.cov(project(projection, cells).T), torch.eye(4), atol=0.05)


def test_channels_that_all_fit_are_standardised_one_by_one() -> None:
    cells = correlated_cells()
    projection = Projection(6, 6)
    projection.fit(cells, whiten=False)
    expected = ((cells - cells.mean(dim=0)) / cells.std(dim=0)).clamp(-6, 6)
    assert torch.allclose(project(projection, cells), expected, atol=1e-3)


def test_channels_that_do_not_fit_keep_their_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(3000, 3, generator=generator) @ torch.randn(3, 10, generator=generator)  # of rank 3
    projection = Projection(10, 3)
    projection.fit(cells, whiten=False)
    standardised = (cells - cells.mean(dim=0)) / cells.std(dim=0)
    some = slice(0, 50)
    before = nn.functional.normalize(standardised[some], dim=1)
    after = nn.functional.normalize(project(projection, cells)[some], dim=1)
    assert torch.allclose(before @ before.T, after @ after.T, atol=1e-3)


def test_a_constant_channel_gives_no_nan() -> None:
    cells = torch.cat([correlated_cells(), torch.full((4000, 1), 7.0)], dim=1)
    for components, whiten in ((7, False), (5, False), (7, True)):
        projection = Projection(7, components)
        projection.fit(cells, whiten=whiten)
        assert project(projection, cells).isfinite().all()


# --- probabilities ---------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_images_classes_and_the_background() -> None:
    cells = CellClassifier([5], 4, CellSpec([0], [5], hidden=8)).eval()
    features = torch.randn(2, 5, 3, 3, generator=torch.manual_seed(0))
    classes = torch.tensor([[2, 0], [1, NO_CLASS]])
    with torch.no_grad():
        found = cells.probabilities([features], classes)
        logits = cells(features.permute(0, 2, 3, 1))
    first = logits[0][..., [2, 0, 4]].softmax(dim=-1)
    second = logits[1][..., [1, 4]].softmax(dim=-1)
    assert torch.allclose(found[0], first[..., :2].permute(2, 0, 1), atol=1e-6)
    assert torch.allclose(found[1, 0], second[..., 0], atol=1e-6)
    assert torch.equal(found[1, 1], torch.zeros(3, 3))


# --- recording -------------------------------------------------------------------------------------------------------


def test_a_recorder_keeps_what_the_stages_returned_during_the_block_alone() -> None:
    network = backbone(4, 6, 8)
    recorder = StageRecorder(network, [2, 0])
    with recorder.recording():
        expected = network(images())
    last, first = recorder.features(images())
    assert torch.equal(last, expected[2])
    assert torch.equal(first, expected[0])
    network(images())
    assert recorder.recorded() == {}


def test_each_thread_records_its_own_passes() -> None:
    network, both_inside = backbone(4, 6), threading.Barrier(2)
    recorder = StageRecorder(network, [1])

    def record(side: int) -> bool:
        with recorder.recording():
            both_inside.wait()
            expected = network(images(side))
            both_inside.wait()
        return torch.equal(recorder.features(images(side))[0], expected[1])

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(record, (64, 96))) == [True, True]


def test_a_recorder_joins_the_pieces_of_a_batch() -> None:
    network, batch = backbone(4, 6), images(count=3)
    recorder = StageRecorder(network, [1])
    with recorder.recording():
        for piece in batch.split(2):
            network(piece)
    assert torch.allclose(recorder.features(batch)[0], network(batch)[1], atol=1e-6)


def test_stages_that_did_not_run_are_run_afterwards() -> None:
    network = backbone(4, 6)
    recorder = StageRecorder(network, [1, 0])
    with recorder.recording():
        network.stages[0](network.normalise(images()))
    assert torch.equal(recorder.features(images())[0], network(images())[1])


# --- refined maps ----------------------------------------------------------------------------------------------------


def refined(localizer: Any, how: str, scales: tuple[float, ...], classes: list[list[int]]) -> Any:
    refiner = MapRefiner(localizer, how)
    pictures = {scale: images(int(64 * scale)) for scale in scales}
    scale = feature_scale(scales)
    wanted = torch.tensor(classes)
    with torch.no_grad():
        maps = localize_pyramid(localizer, pictures, classes=wanted, recorder=refiner.recorder, record_scale=scale)
        return refiner.refine(pictures[scale], maps.levels, wanted)


def cam(network: Backbone, classes: int = 3) -> CAM:
    localizer = CAM(network, classes=classes)
    nn.init.normal_(localizer.classifier.weight)
    localizer.cells = build_cell_classifier(network, classes, cell_spec(network))
    return localizer.eval()


@pytest.mark.parametrize("how", ["cells", "walk"])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.5, 2.0), (0.5, 1.0)])
def test_refined_maps_have_the_grid_of_the_scale_nearest_to_that_of_the_training(
    how: str, scales: tuple[float, ...]
) -> None:
    result = refined(cam(backbone(4, 6, 8)), how, scales, [[0, 2], [1, NO_CLASS]])
    side = int(64 * min(1.5, max(scales))) // 8
    for maps in (result.maps, result.class_maps):
        assert maps.shape == (2, 2, side, side)
        assert (maps >= 0).all()
        assert (maps <= 1 + 1e-6).all()


def test_the_features_are_those_of_the_scale_nearest_to_that_of_the_training() -> None:
    localizer = cam(backbone(4, 6, 8))
    alone = refined(localizer, "cells", (1.5,), [[0], [1]])
    for scales in ((1.0, 1.5), (1.0, 1.5, 2.0), (2.0, 1.5)):
        assert torch.allclose(refined(localizer, "cells", scales, [[0], [1]]).maps, alone.maps, atol=1e-6)


def test_a_localizer_that_runs_shallow_stages_only_is_refined_too() -> None:
    network = backbone(4, 6, 8, 10)
    localizer = ORNet(network, 3)
    localizer.cells = build_cell_classifier(network, 3, cell_spec(network))
    result = refined(localizer.eval(), "cells", (1.0, 1.5), [[0, 1], [2, NO_CLASS]])
    assert result.maps.shape == (2, 2, 6, 6)


def test_a_model_without_a_cell_classifier_is_refused() -> None:
    localizer = CAM(backbone(4, 6), classes=2)
    with pytest.raises(Exception, match="no cell classifier"):
        MapRefiner(localizer, "cells")
