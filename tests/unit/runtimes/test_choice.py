"""Which runtime and precision `auto` stands for, and what is refused."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mining.errors import ModelError
from mining.runtimes import choice
from mining.runtimes.choice import choose_compute

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("runtime", "precision", "capabilities", "expected"),
    [
        ("auto", "auto", ["FP32", "BF16"], ("openvino", "bfloat16")),
        ("auto", "auto", ["FP32"], ("openvino", "float32")),
        ("auto", "float32", ["FP32", "BF16"], ("openvino", "float32")),
        ("openvino", "auto", ["FP32", "BF16"], ("openvino", "bfloat16")),
        ("torch", "auto", ["FP32", "BF16"], ("torch", "float32")),
        ("torch", "bfloat16", ["FP32"], ("torch", "bfloat16")),
    ],
)
def test_auto_is_the_fastest_that_the_cpu_computes_with(
    monkeypatch: pytest.MonkeyPatch, runtime: Any, precision: Any, capabilities: list[str], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(choice, "openvino_core", lambda: FakeCore(capabilities))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    chosen = choose_compute(CPU, runtime, precision)
    assert (chosen.runtime, chosen.precision) == expected


def test_auto_is_not_a_precision_that_the_cpu_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "openvino_core", lambda: FakeCore(["FP32", "BF16"]))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose_compute(CPU, "auto", "auto").precision == "float32"
    assert choose_compute(CPU, "auto", "bfloat16").precision == "bfloat16"


def test_instructions_for_bfloat16_are_found_in_the_cpu_s_flags() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.is_file() or platform.machine() != "x86_64":
        pytest.skip("the flags of the CPU are not known here")
    assert torch.cpu._is_avx512_bf16_supported() == ("avx512_bf16" in flags.read_text())


class FakeCore:
    def __init__(self, capabilities: list[str]) -> None:
        self.capabilities = capabilities

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self.capabilities


def test_a_gpu_computes_in_torch_with_half_precision() -> None:
    chosen = choose_compute(torch.device("cuda"), "auto", "auto")
    assert (chosen.runtime, chosen.precision) == ("torch", "float16")


def test_openvino_is_refused_on_a_gpu() -> None:
    with pytest.raises(ModelError, match="--runtime openvino computes on the CPU, not on cuda"):
        choose_compute(torch.device("cuda"), "openvino", "auto")


def test_torch_is_used_without_openvino_unless_openvino_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert choose_compute(CPU, "auto", "auto").describe() == "cpu (torch, float32)"
    with pytest.raises(ModelError, match="needs the package openvino: pip install openvino"):
        choose_compute(CPU, "openvino", "auto")


def test_torch_computes_with_the_precision_asked_for() -> None:
    layer = torch.nn.Linear(4, 4)
    for precision, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with torch.inference_mode(), choose_compute(CPU, "torch", precision).autocast():  # type: ignore[arg-type]
            assert layer(torch.zeros(1, 4)).dtype == expected


def run_with_false_telemetry(folder: Path, program: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that finds a package of the name of OpenVINO's telemetry, which any import of it would reveal."""
    (folder / "openvino_telemetry").mkdir()
    (folder / "openvino_telemetry" / "__init__.py").write_text("raise SystemExit('telemetry was imported')")
    found_in = ":".join(map(str, (folder, Path(__file__).parents[3], *paths)))
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env={"PYTHONPATH": found_in, "HOME": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    done = run_with_false_telemetry(
        tmp_path,
        "import sys; from mining.runtimes.openvino_core import openvino_core; openvino_core();"
        "import numpy, torch, openvino;"
        "openvino.convert_model(torch.nn.Linear(2, 2), example_input=torch.zeros(1, 2));"
        "print(sorted(name for name in sys.modules if 'telemetry' in name))",
    )
    assert done.returncode == 0, done.stderr
    assert "openvino_telemetry" not in done.stdout
    assert "telemetry_stub" in done.stdout
    assert not list(tmp_path.glob("*.openvino*"))
