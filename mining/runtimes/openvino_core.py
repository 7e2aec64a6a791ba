"""OpenVINO, imported without its telemetry."""

import sys
from functools import cache
from typing import Any

_TELEMETRY = "openvino_telemetry"


@cache
def import_openvino() -> Any:
    """Import OpenVINO.

    Its package reports each import and each conversion to its maker over the network, without asking, if it finds the
    package openvino-telemetry. boxmine opens no connection that nobody asked for; hence this package is hidden while
    OpenVINO is imported, which then uses its own empty replacement.
    """
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _TELEMETRY}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)
    return openvino


@cache
def openvino_core() -> Any:
    """Return the process's OpenVINO core."""
    return import_openvino().Core()
