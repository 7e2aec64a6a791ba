"""What the parts of a run are made from, so that a part of another run is not merged into it."""

from dataclasses import asdict
from typing import Any

from mining.corpus import read_shard
from mining.models.card import read_card
from mining.runs.run import HOW_IT_IS_RUN, PART_ORIGINS, Run
from mining.runs.shard_files import PartOrigin
from mining.storage.integrity import digest_of

_NOT_IN_BOXES = HOW_IT_IS_RUN | {"out", "curves", "model"}  # the model counts by its content, not by its place
# what a shard asks for; states, sizes and hashes are filled in later
_ASKED = ["image_id", "file_name", "labels"]


class PartOrigins:
    """The origins that the parts of a run must have."""

    def __init__(self, run: Run) -> None:
        record = run.record
        self._run = run
        self._is_known = bool(record.get(PART_ORIGINS))
        settings = {name: value for name, value in record["config"].items() if name not in _NOT_IN_BOXES}
        self._settings = digest_of({"config": settings, "inputs": record.get("inputs")})
        self._model = digest_of({**asdict(read_card(run.model)), "training": None})

    def of(self, shard: int) -> PartOrigin | None:
        """Of one shard's part; None in a run of an earlier version, whose parts do not say what they are from."""
        return self.of_rows(read_shard(self._run.corpus, shard).select(_ASKED).to_pylist()) if self._is_known else None

    def of_rows(self, rows: list[dict[str, Any]]) -> PartOrigin | None:
        """The same from the shard's rows of the corpus table."""
        if not self._is_known:
            return None
        asked = [[row[name] for name in _ASKED] for row in rows]
        return PartOrigin(self._model, self._settings, digest_of(asked))
