"""The model folder during a training: what may be in it, what is written and what is deleted.

The folder of an unfinished training holds `training.json` (its settings), `checkpoints/` and the file that marks it as
boxmine's. They are deleted when the training is finished; `model.json` then shows that the folder holds a model.
"""

import re
from pathlib import Path
from typing import Any

from mining.corpus.schema import CORPUS_FILE
from mining.errors import ModelError
from mining.models.card import CARD_FILE, CHECKPOINTS, PICTURES
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
_PICTURE_FILE = re.compile(r"epoch-\d{5,}\.jpg")
_FEATURE_FILE = re.compile(r"features-(training|validation)-\d{5,}\.(npy|json)")


def refuse_foreign_folder(out: Path) -> None:
    """Check that a training may use the folder `out`.

    Raises:
        ModelError: It is not empty, and neither a model nor an unfinished training.
    """
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
    """Read the settings of the unfinished training in `out`.

    Raises:
        ModelError: The record cannot be read.
    """
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
    """Mark the folder as boxmine's, and delete files that a killed training left unfinished; call it under the lock."""
    mark_folder(out, "model")
    delete_temporaries(out, (CHECKPOINTS, PICTURES))


def end_training(out: Path) -> None:
    """Delete everything but the finished model: checkpoints, record and mark."""
    delete_checkpoints(out)
    delete_temporaries(out)
    (out / TRAINING_FILE).unlink(missing_ok=True)
    unmark_folder(out)


def discard_false_start(out: Path) -> None:
    """Delete a training that has no checkpoint yet, so that the corrected command can use the same folder."""
    if not any((out / CHECKPOINTS / name).exists() for name in _CHECKPOINT_FILES if name.endswith(".ckpt")):
        _delete_pictures(out)
        end_training(out)


def discard_training(out: Path) -> None:
    """Delete everything that a corrected command could resume, and the pictures of its epochs."""
    delete_checkpoints(out)
    _delete_pictures(out)
    (out / HISTORY_FILE).unlink(missing_ok=True)


def _delete_pictures(out: Path) -> None:
    folder = out / PICTURES
    names = [path.name for path in folder.iterdir() if _PICTURE_FILE.fullmatch(path.name)] if folder.is_dir() else []
    delete_files(folder, names)


def delete_checkpoints(out: Path) -> None:
    """Delete a training's checkpoints and features; other files are kept."""
    for path in find_temporaries(out, (CHECKPOINTS,)):
        delete_own(path)
    folder = out / CHECKPOINTS
    features = [path.name for path in folder.iterdir() if _FEATURE_FILE.fullmatch(path.name)] if folder.is_dir() else []
    delete_files(folder, (*_CHECKPOINT_FILES, *features))
