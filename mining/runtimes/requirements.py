"""What a runtime and a precision need, found out without importing them."""

from importlib.util import find_spec

from mining.config import Precision, Runtime
from mining.errors import ModelError


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def refuse_int8_elsewhere(runtime: Runtime, precision: Precision, *, on_cpu: bool) -> None:
    """Raise ModelError for int8 unless OpenVINO computes it on a CPU."""
    if precision != "int8":
        return
    if not on_cpu:
        raise ModelError("--precision int8 computes on the CPU alone; give --device cpu, or another precision.")
    if runtime == "torch":
        raise ModelError("--precision int8 is computed by OpenVINO, not by PyTorch; leave out --runtime torch.")
    if not has_openvino():
        raise ModelError("--precision int8 needs the packages openvino and nncf: pip install 'boxmine[int8]'.")


def refuse_int8_without_nncf(precision: Precision) -> None:
    """Raise ModelError if a network is to be quantized and NNCF is not installed."""
    if precision == "int8" and find_spec("nncf") is None:
        raise ModelError("--precision int8 needs the package nncf: pip install 'boxmine[int8]'.")
