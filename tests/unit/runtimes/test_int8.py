"""Parts of localizers in int8: nearly those of torch, always the same ones, and refused where they cannot be computed."""

import copy
import zipfile
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.cell_classifier import cell_spec
from mining.localizers.loading import localizer_named
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes import quantization, requirements
from mining.runtimes.choice import Compute, choose_compute
from mining.runtimes.openvino_part import CompiledPart
from mining.runtimes.prepare import use_runtime
from mining.runtimes.quantization import quantize_localizer
from tests.unit.runtimes.test_choice import run_with_false_telemetry

CPU = torch.device("cpu")
CLASSES = torch.tensor([[2, 0]])
needs_nncf = pytest.mark.skipif(find_spec("nncf") is None, reason="NNCF quantizes: pip install 'boxmine[int8]'")


def localizer_on(name: str, backbone: str = "efficientnet_lite0") -> Localizer:
    torch.manual_seed(0)
    kind: Any = localizer_named(name)
    return prepare_for_inference(kind(build(backbone, weights="imagenet")[0], 4), CPU)


def pictures(count: int = 12) -> list[Tensor]:
    """Smooth images of two shapes, because the ranges of noise are not those of photos."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(96, 128), (144, 96)]
    coarse = [torch.rand((1, 3, 6, 6), generator=generator) for _ in range(count)]
    return [
        torch.nn.functional.interpolate(255 * one, sizes[number % 2], mode="bicubic").clamp(0, 255).to(torch.uint8)
        for number, one in enumerate(coarse)
    ]


def recorder_of(localizer: Localizer) -> StageRecorder:
    return StageRecorder(localizer.backbone, cell_spec(localizer.backbone).stages)


def in_int8(localizer: Localizer, file: Path, threads: int = 1) -> tuple[Localizer, StageRecorder]:
    """Return a copy of the localizer that OpenVINO computes in int8, and its recorder."""
    quick = copy.deepcopy(localizer)
    quick.int8_networks = file
    recorder = recorder_of(quick)
    used = use_runtime(
        quick, Compute(CPU, "openvino", "int8"), recorder, threads=threads, timer=nullcontext, asked=("auto", "int8")
    )
    assert used == Compute(CPU, "openvino", "int8")
    return quick, recorder


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.fixture(scope="module")
def plain() -> Localizer:
    return localizer_on("cam")


@pytest.fixture(scope="module")
def networks(plain: Localizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("int8") / "int8.zip"
    localizer = copy.deepcopy(plain)
    quantize_localizer(localizer, recorder_of(localizer), pictures(), file)
    return file


@needs_nncf
def test_features_are_nearly_those_of_torch_but_not_equal(plain: Localizer, networks: Path) -> None:
    quick, recorder = in_int8(plain, networks)
    reference = recorder_of(plain)
    for image in pictures(2):
        with torch.no_grad():
            with reference.recording():
                expected = plain.last_features(image)  # type: ignore[operator]
            with recorder.recording():
                found = quick.last_features(image)  # type: ignore[operator]
        assert 0.001 < difference(found, expected) < 0.4
        for own, other in zip(recorder.features(image), reference.features(image), strict=True):
            assert 0.001 < difference(own, other) < 0.4


@needs_nncf
def test_the_same_images_give_the_same_networks(plain: Localizer, networks: Path, tmp_path: Path) -> None:
    localizer = copy.deepcopy(plain)
    quantize_localizer(localizer, recorder_of(localizer), pictures(), tmp_path / "again.zip")
    with zipfile.ZipFile(networks) as first, zipfile.ZipFile(tmp_path / "again.zip") as second:
        assert first.namelist() == second.namelist()
        weights = [name for name in first.namelist() if name.endswith(".bin")]
        assert weights
        assert all(first.read(name) == second.read(name) for name in weights)


@needs_nncf
def test_passes_do_not_depend_on_the_number_of_threads(plain: Localizer, networks: Path) -> None:
    alone, several = in_int8(plain, networks)[0], in_int8(plain, networks, threads=3)[0]
    for image in pictures(3):
        with torch.inference_mode():
            assert torch.equal(alone.localize(image, CLASSES).maps, several.localize(image, CLASSES).maps)


@needs_nncf
@pytest.mark.parametrize(
    ("name", "part"),
    [("gradcam", "lower_features"), pytest.param("ornet", "backbone_features", marks=pytest.mark.slow)],
)
def test_every_part_that_a_localizer_needs_is_quantized(name: str, part: str, tmp_path: Path) -> None:
    plain = localizer_on(name)
    localizer = copy.deepcopy(plain)
    quantize_localizer(localizer, recorder_of(localizer), pictures(), tmp_path / "int8.zip")
    with zipfile.ZipFile(tmp_path / "int8.zip") as archive:
        assert f"{part}.xml" in archive.namelist()
    quick, recorder = in_int8(plain, tmp_path / "int8.zip")
    assert all(isinstance(getattr(quick, one), CompiledPart) for one in quick.inference_parts)
    with torch.set_grad_enabled(quick.needs_gradients), recorder.recording():
        assert bool(quick.localize(pictures(1)[0], CLASSES).maps.isfinite().all())
    assert len(recorder.features(pictures(1)[0])) == len(recorder.stages)


@needs_nncf
def test_a_network_that_computes_something_else_is_refused(
    plain: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mining.runtimes.openvino_core import import_openvino

    def breaking(model: Any, images: Any) -> Any:
        opset, broken = import_openvino().opset13, model.clone()
        for output in broken.outputs:
            node = output.get_node()
            opposite = opset.negative(node.input_value(0))
            node.input(0).replace_source_output(opposite.output(0))
        return broken

    monkeypatch.setattr(quantization, "_quantize", breaking)
    with pytest.raises(ModelError, match=r"cannot be mined in int8: its result for .* differs from torch's"):
        quantize_localizer(copy.deepcopy(plain), None, pictures(), tmp_path / "int8.zip")
    assert not (tmp_path / "int8.zip").exists()


@needs_nncf
def test_quantizing_prints_nothing(plain: Localizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantize_localizer(copy.deepcopy(plain), None, pictures(2), tmp_path / "int8.zip")
    assert capfd.readouterr() == ("", "")


@needs_nncf
def test_a_damaged_file_is_refused(plain: Localizer, networks: Path, tmp_path: Path) -> None:
    content = bytearray(networks.read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "int8.zip").write_bytes(content)
    with pytest.raises(ModelError, match=r"int8: .*int8\.zip is damaged or of another model"):
        in_int8(plain, tmp_path / "int8.zip")
    (tmp_path / "int8.zip").write_bytes(networks.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"int8: .*int8\.zip is damaged"):
        in_int8(plain, tmp_path / "int8.zip")


def test_a_model_that_was_not_quantized_is_refused(plain: Localizer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it was not quantized\. `boxmine mine --precision int8` does so"):
        in_int8(plain, tmp_path / "none.zip")


def test_int8_is_refused_where_openvino_does_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="computes on the CPU alone; give --device cpu"):
        choose_compute(torch.device("cuda"), "auto", "int8")
    with pytest.raises(ModelError, match="leave out --runtime torch"):
        choose_compute(CPU, "torch", "int8")
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'boxmine\[int8\]'"):
        choose_compute(CPU, "auto", "int8")


@needs_nncf
def test_nncf_is_imported_without_telemetry(tmp_path: Path) -> None:
    nncf = Path(str(find_spec("nncf").origin)).parents[1]  # type: ignore[union-attr]
    done = run_with_false_telemetry(
        tmp_path,
        "import sys; from mining.runtimes.openvino_core import import_nncf; nncf = import_nncf();"
        "from nncf.telemetry import wrapper; print(type(wrapper.telemetry) is wrapper.NNCFTelemetry);"
        "print('openvino_telemetry' in sys.modules)",
        nncf,
    )
    assert (done.returncode, done.stdout) == (0, "False\nFalse\n"), done.stderr
