"""What `import boxmine` offers, and what its functions take."""

import inspect
import subprocess
import sys
from importlib.resources import files
from typing import Any, get_type_hints

import pytest

import boxmine
import mining.errors
from boxmine._keywords import ExportKeywords, ExtractionKeywords, MapsKeywords, MineKeywords, TrainKeywords
from mining.config import MapsSettings, MineSettings, TrainSettings
from mining.export import export

NAMES = {
    "BoxmineError", "Comparison", "CorpusError", "DamagedFileError", "DamagedPartError", "ImageError",
    "ImageReplacedError", "InputError", "Localizer", "MapError", "ModelError", "ProcessLostError", "Run", "RunError",
    "RunStoppedError", "Scores", "ScoringError", "StorageError", "StoreMissingError", "TrainedModel", "__version__",
    "calibrate", "compare", "export", "export_model", "fuse", "import_boxes", "label", "load_model", "maps", "mine", "report", "score", "train",
}  # fmt: skip


def test_the_exported_names_are_these() -> None:
    assert set(boxmine.__all__) == NAMES
    assert set(dir(boxmine)) == NAMES
    assert all(getattr(boxmine, name) is not None for name in NAMES)


def test_every_error_is_exported() -> None:
    errors = {name for name, value in vars(mining.errors).items() if inspect.isclass(value) and _is_error(value)}
    assert errors <= NAMES


def _is_error(value: type[Any]) -> bool:
    return issubclass(value, mining.errors.BoxmineError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'minee'"):
        boxmine.minee  # noqa: B018


def test_importing_the_package_imports_no_heavy_library() -> None:
    heavy = ("torch", "pandas", "pyarrow", "numpy", "prefect", "pydantic", "flows", "tasks")
    code = f"import sys, boxmine; boxmine.InputError; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_package_is_marked_as_typed() -> None:
    assert files("boxmine").joinpath("py.typed").is_file()


def test_the_module_runs_the_command_line() -> None:
    out = subprocess.run([sys.executable, "-m", "boxmine", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == boxmine.__version__


# options of the command line that name how shards are shared out among processes
OF_SEVERAL_PROCESSES = {"runner", "runner_workers", "gpus_per_worker", "ray_address"}


def test_mine_takes_the_settings_of_mining() -> None:
    named = {"images", "labels", "model", "out"}
    assert _keys(MineKeywords) == set(MineSettings.model_fields) - named - OF_SEVERAL_PROCESSES


def test_load_model_takes_the_settings_of_mining_that_concern_boxes() -> None:
    of_a_run = {"split", "min_present", "shard_size", "retries"}
    assert _keys(ExtractionKeywords) == _keys(MineKeywords) - of_a_run


def test_train_takes_the_settings_of_training() -> None:
    assert _keys(TrainKeywords) == set(TrainSettings.model_fields) - {"images", "labels", "out", "boxes"}


def test_maps_takes_the_settings_of_its_page() -> None:
    assert _keys(MapsKeywords) == set(MapsSettings.model_fields) - {"models", "images", "out"}


def test_export_takes_the_options_of_exports() -> None:
    named = {"run_dir", "format", "out", "progress"}
    assert _keys(ExportKeywords) == set(inspect.signature(export).parameters) - named


def _keys(keywords: type[Any]) -> set[str]:
    return set(get_type_hints(keywords))
