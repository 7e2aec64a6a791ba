"""What a training may find, write and delete in its model folder.

While a training is unfinished its folder holds `training.json` (what was asked for), `checkpoints/` and a mark. When it
is finished they go, and `model.json` says that the folder holds a model.
"""

from pathlib import Path
from typing import Any

from mining.corpus.schema import CORPUS_FILE
from mining.errors import ModelError
from mining.models.card import CARD_FILE, CHECKPOINTS
from mining.storage.ownership import (
    delete_files,
    delete_own,
    delete_temporaries,
    find_temporaries,
    foreign_entries,
    mark_folder,
    unmark_folder,
)
from mining.storage.untrusted_files import read_json
from mining.training.history import HISTORY_FILE

TRAINING_FILE = "training.json"
_CHECKPOINT_FILES = ("last.ckpt", "best.ckpt", CORPUS_FILE)


def refuse_foreign_folder(out: Path) -> None:
    """Raise ModelError where `out` is neither new nor empty, nor a model nor an unfinished training of ours."""
    if out.is_file():
        raise ModelError(f"--out {out} is a file; give a folder.")
    if (out / CARD_FILE).exists() or (out / TRAINING_FILE).exists():
        return
    foreign = foreign_entries(out)
    if foreign:
        raise ModelError(
            f"--out {out} holds other things (e.g. {foreign[0]!r}) and is neither a model nor an unfinished training; "
            "give a new or an empty folder. Nothing in it was touched."
        )


def read_training(out: Path) -> dict[str, Any]:
    """The settings of the unfinished training in `out`; raises ModelError where the record is not one of ours."""
    path = out / TRAINING_FILE
    try:
        record = read_json(path)
        if not isinstance(record, dict) or "localizer" not in record:
            raise ValueError("it has no localizer")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as the record of an unfinished training ({error}). Give another --out, or delete "
            "the folder if a training left it."
        ) from None
    return record


def begin_training(out: Path) -> None:
    """Mark the folder as a training's, and delete what a killed one left half written. The caller holds its lock."""
    mark_folder(out, "model")
    delete_temporaries(out, (CHECKPOINTS,))


def end_training(out: Path) -> None:
    """Leave the finished model alone: its checkpoints, record and mark go."""
    delete_checkpoints(out)
    delete_temporaries(out)
    (out / TRAINING_FILE).unlink(missing_ok=True)
    unmark_folder(out)


def discard_false_start(out: Path) -> None:
    """Where nothing was trained yet, leave nothing, so that the corrected command may use the same folder."""
    if not any((out / CHECKPOINTS / name).exists() for name in _CHECKPOINT_FILES if name.endswith(".ckpt")):
        end_training(out)


def discard_training(out: Path) -> None:
    """Leave nothing that a corrected command could take for a training to resume."""
    delete_checkpoints(out)
    (out / HISTORY_FILE).unlink(missing_ok=True)


def delete_checkpoints(out: Path) -> None:
    """Delete what a training has written to its checkpoints; anything else that lies there stays."""
    for path in find_temporaries(out, (CHECKPOINTS,)):
        delete_own(path)
    delete_files(out / CHECKPOINTS, _CHECKPOINT_FILES)
