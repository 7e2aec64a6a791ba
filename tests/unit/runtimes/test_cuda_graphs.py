"""CUDA graphs: padding, copies, how many are kept, and errors; on a GPU, the same maps as without them."""

import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from mining.localizers.base import Localizer
from mining.localizers.cell_classifier import cell_spec
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes import cuda_graphs
from mining.runtimes.choice import Compute, choose_compute
from mining.runtimes.cuda_graphs import GraphedPart, Outputs, batch_size_for
from mining.runtimes.prepare import use_runtime
from tests.unit.runtimes.test_openvino_part import CLASSES, CPU, localizer_on

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
FLOAT32 = Compute(CPU, "torch", "float32")


class FakeCapture:
    """Captures as CUDA does: each replay writes into the same outputs."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, run: Callable[[torch.Tensor], Outputs], images: torch.Tensor) -> Any:
        self.shapes.append(tuple(images.shape))
        static = run(images.clone())

        def replay(images: torch.Tensor) -> Outputs:
            assert tuple(images.shape) == self.shapes[-1] or images.shape in {torch.Size(one) for one in self.shapes}
            new = run(images)
            static.result.copy_(new.result)
            for stage, features in static.stages.items():
                features.copy_(new.stages[stage])
            time.sleep(0.005)  # another thread may replay
            return static

        return replay


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def graphed(
    localizer: Localizer, capture: Any, name: str = "last_features", recorder: StageRecorder | None = None
) -> GraphedPart:
    return GraphedPart(getattr(localizer, name), FLOAT32, recorder, nullcontext, capture)


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return prepare_for_inference(localizer_on("cam"), CPU)


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 12), (13, 16), (17, 24), (25, 32), (32, 32)]
)
def test_batches_are_padded_to_one_of_few_sizes(count: int, size: int) -> None:
    assert batch_size_for(count) == size


def test_each_image_gets_its_own_features_and_keeps_them(localizer: Localizer) -> None:
    capture = FakeCapture()
    part = graphed(localizer, capture)
    with torch.inference_mode():
        found = [(part(images), localizer.last_features(images)) for images in map(pictures, (5, 5, 6, 1, 5), range(5))]
        for own, expected in found:
            assert own.shape == expected.shape
            assert torch.allclose(own, expected, atol=1e-4)
    assert capture.shapes == [(6, 3, 64, 96)]


def test_stages_are_recorded_for_the_images_alone(localizer: Localizer) -> None:
    recorder = StageRecorder(localizer.backbone, cell_spec(localizer.backbone).stages)
    part = graphed(localizer, FakeCapture(), recorder=recorder)
    for seed in range(3):
        images, more = pictures(5, seed), pictures(3, seed + 10)
        with torch.inference_mode():
            expected = localizer.backbone(torch.cat([images, more]))
            with recorder.recording():
                part(images), part(more)
            found = recorder.features(torch.cat([images, more]))
        for stage, features in zip(recorder.stages, found, strict=True):
            assert torch.allclose(features, expected[stage], atol=1e-4)
        assert recorder.recorded() == {}


def test_nothing_is_recorded_while_the_recorder_does_not_record(localizer: Localizer) -> None:
    recorder = StageRecorder(localizer.backbone, [0])
    part = graphed(localizer, FakeCapture(), recorder=recorder)
    with torch.inference_mode():
        part(pictures(1)), part(pictures(1))
    assert recorder.recorded() == {}


def test_the_least_recently_used_graphs_are_dropped(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    capture = FakeCapture()
    part = graphed(localizer, capture)
    with torch.inference_mode():
        for count in (1, 1, 2, 2, 1, 3, 3, 1, 2, 2):
            part(pictures(count))
    assert [shape[0] for shape in capture.shapes] == [1, 2, 3, 2]


def test_a_network_that_cannot_be_captured_runs_without_a_graph(
    localizer: Localizer, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nfurther lines")

    part = graphed(localizer, refuse)
    with torch.inference_mode():
        for seed in range(4):
            images = pictures(2, seed)
            assert torch.allclose(part(images), localizer.last_features(images), atol=1e-4)
    assert caplog.text.count("cannot run as a CUDA graph and runs without: operation not permitted") == 1


def test_threads_may_share_a_part(localizer: Localizer) -> None:
    part = graphed(localizer, FakeCapture())
    batches = [pictures(2, seed) for seed in range(12)]

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return part(images)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, batches))
    with torch.inference_mode():
        for own, images in zip(found, batches, strict=True):
            assert torch.allclose(own, localizer.last_features(images), atol=1e-4)


def test_graphs_are_dropped_when_memory_runs_out(localizer: Localizer) -> None:
    capture = FakeCapture()
    part = graphed(localizer, capture)
    with torch.inference_mode():
        part(pictures(1)), part(pictures(1)), part(pictures(2))

        def fail(*_: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        part._capture = fail
        with pytest.raises(torch.OutOfMemoryError):
            part(pictures(2))
        part._capture = capture
        part(pictures(1)), part(pictures(1))
    assert [shape[0] for shape in capture.shapes] == [1, 1]


@needs_gpu
@pytest.mark.parametrize("name", ["cam", "spg", "mldfr", "ornet", "nlccam", "layercam", "msrd"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_graphs_give_the_maps_and_features_of_the_plain_localizer(name: str, precision: Any) -> None:
    device = torch.device("cuda")
    plain = prepare_for_inference(localizer_on(name), device)
    quick = copy.deepcopy(plain)
    compute = choose_compute(device, "auto", precision)
    recorders = [StageRecorder(one.backbone, cell_spec(one.backbone).stages) for one in (plain, quick)]
    use_runtime(quick, compute, recorders[1], threads=1, timer=nullcontext)
    for seed in range(3):
        for count in (5, 2, 6):
            images = pictures(count, seed).to(device)
            classes = CLASSES.to(device).expand(count, -1)
            found = []
            for localizer, recorder in zip((plain, quick), recorders, strict=True):
                quiet = torch.no_grad() if localizer.needs_gradients else torch.inference_mode()
                with quiet, compute.autocast():
                    with recorder.recording():
                        seen = localizer.localize(images, classes)
                    found.append([seen.logits, seen.maps, *recorder.features(images)])
            for expected, own in zip(*found, strict=True):
                assert own.shape == expected.shape
                scale = float(expected.float().abs().max().clamp_min(1e-3))
                tolerance = 1e-2 if precision == "float32" else 3e-2  # convolutions in "float32" round as TF32 does
                assert float((own.float() - expected.float()).abs().max()) <= tolerance * scale
