"""What the parts of a run were made from, so that a part of another run is not merged into it."""

from pathlib import Path
from typing import Any

from mining.config import ExecutionOptions
from mining.corpus import read_shard
from mining.errors import RunError
from mining.models.card import INT8_FILE, read_card
from mining.runs.run import PART_ORIGINS, Run
from mining.runs.shard_files import PartOrigin
from mining.storage.files import sha256_of
from mining.storage.integrity import digest_of

_LOCATIONS = {"out", "model"}  # a run may be moved, and its model counts by its content
# what mining takes from a row of the corpus table; states, sizes and hashes are filled in later
_INPUT_COLUMNS = ["image_id", "file_name", "labels"]


class PartOrigins:
    """The origins that the parts of a run must have. Raises RunError where the run's networks in int8 are missing."""

    def __init__(self, run: Run) -> None:
        record = run.record
        self._run = run
        self._is_known = bool(record.get(PART_ORIGINS))
        # taken from the record rather than from settings: a setting that is new since then changes no digest
        ignored = {*ExecutionOptions.model_fields, *_LOCATIONS}
        config = {name: value for name, value in record["config"].items() if name not in ignored}
        self._settings = digest_of({"config": config, "inputs": record.get("inputs")})
        model = {**read_card(run.model).to_record(), "training": None}
        if run.settings.precision == "int8":
            model["int8_sha256"] = _digest_of_networks(run.model / INT8_FILE)
        self._model = digest_of(model)

    def of(self, shard: int) -> PartOrigin | None:
        """Return the origin of a shard's part; None for a run of an earlier version, whose parts record none."""
        if not self._is_known:
            return None
        return self.of_rows(read_shard(self._run.corpus, shard).select(_INPUT_COLUMNS).to_pylist())

    def of_rows(self, rows: list[dict[str, Any]]) -> PartOrigin | None:
        """Return the same from the shard's rows of the corpus table."""
        if not self._is_known:
            return None
        return PartOrigin(
            self._model, self._settings, digest_of([[row[name] for name in _INPUT_COLUMNS] for row in rows])
        )


def _digest_of_networks(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise RunError(
            f"{file}, the run's networks in int8, cannot be read ({error.strerror}). Copy it from an intact copy of "
            "the run, or mine into another --out."
        ) from None
