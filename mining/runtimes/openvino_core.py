"""OpenVINO, imported without its telemetry."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


@cache
def import_openvino() -> Any:
    """Import OpenVINO.

    Its package reports each import and each conversion to its maker over the network, without asking, if it finds the
    package openvino-telemetry. boxmine opens no connection that nobody asked for; hence this package is hidden while
    OpenVINO is imported, which then uses its own empty replacement.
    """
    with _without_telemetry():
        import openvino
    return openvino


@cache
def import_nncf() -> Any:
    """Import NNCF, which quantizes networks, without its telemetry, which is that of OpenVINO."""
    import_openvino()
    with _without_telemetry():
        import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _TELEMETRY}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)


def openvino_core() -> Any:
    """Return the process's OpenVINO core."""
    with _lock:
        return _make_core()


@cache
def _make_core() -> Any:
    """Make the core and compute once with it.

    The first computation of a process initialises OpenVINO's Python bindings. If two threads compute for the first time
    at once, each can wait for the other forever: one has the interpreter's lock, the other that of the initialisation.
    """
    openvino = import_openvino()
    core = openvino.Core()
    image = openvino.opset13.parameter([-1, 3, -1, -1], np.uint8)
    model = openvino.Model([openvino.opset13.convert(image, "f32")], [image])
    request = core.compile_model(model, "CPU").create_infer_request()
    request.infer([np.zeros((1, 3, 8, 8), np.uint8)], share_inputs=True, share_outputs=True)[0]
    return core
