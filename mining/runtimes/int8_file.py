"""The file of a localizer's parts in int8, which is kept with the model of a run.

It is not in the cache of converted networks, although it is a converted network: quantizing again, on another machine
or with other versions, would give slightly different ranges, and rows would depend on who mined them. Every process
and machine that mines the run, today or when it is resumed, reads this one file.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mining.runtimes.openvino_core import import_openvino, openvino_core
from mining.storage.files import atomic_write

Network = tuple[Any, list[int]]  # an OpenVINO model, and numbers that are kept with it


def write_networks(file: Path, networks: Mapping[str, Network]) -> None:
    """Write networks by name, atomically."""
    with atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w") as archive, TemporaryDirectory() as folder:
        for name, (model, numbers) in networks.items():
            graph = Path(folder) / f"{name}.xml"
            import_openvino().save_model(model, graph, compress_to_fp16=False)
            for path in (graph, graph.with_suffix(".bin")):
                archive.write(path, path.name)
            archive.writestr(f"{name}.json", json.dumps(numbers))


def read_network(file: Path, name: str) -> Network:
    """Read a network.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, or lacks the network.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            graph, weights, numbers = (archive.read(f"{name}.{kind}") for kind in ("xml", "bin", "json"))
        return openvino_core().read_model(graph, weights), [int(number) for number in json.loads(numbers)]
    except (zipfile.BadZipFile, KeyError, TypeError, RuntimeError) as error:  # the last from OpenVINO
        raise ValueError(f"{file} is damaged or of another model ({error})") from None
