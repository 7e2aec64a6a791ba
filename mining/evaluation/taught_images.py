"""What a model learned from besides image-level labels: true boxes of a run's images, or those of COCO."""

from pathlib import Path

from mining.models.card import CARD_FILE, SEEN_COCO, TRUE_BOXES
from mining.runs.run import TAUGHT_IMAGES, Run, read_table
from mining.storage.untrusted_files import read_json


def taught_hashes(run: Run) -> frozenset[str]:
    """Return the SHA-256 of each image whose true boxes a run's boxes were learned from: by its model, or as recorded.

    Args:
        run: The run; a model that has no record of its training was taught none.

    Raises:
        RunError: The run's record is damaged.
    """
    recorded = run.record.get(TAUGHT_IMAGES, ()) if run.has_started() else ()
    try:
        training = read_json(run.model / CARD_FILE)["training"]
        of_model = list(map(str, training["inputs"][TRUE_BOXES]["images"]))
    except (OSError, ValueError, KeyError, TypeError):
        of_model = []
    return frozenset(of_model).union(recorded)


def taught_images(run_dir: Path) -> frozenset[str]:
    """Return the file names of the images whose true boxes the run's model learned from, by their content.

    Args:
        run_dir: Run directory.

    Raises:
        RunError: The run's record or its corpus table is missing or damaged.
    """
    run = Run(run_dir)
    taught = taught_hashes(run)
    if not taught:
        return frozenset()
    corpus = read_table(run.corpus, ["file_name", "content_hash"])
    rows = zip(corpus["file_name"].to_pylist(), corpus["content_hash"].to_pylist(), strict=True)
    return frozenset(name for name, digest in rows if digest in taught)


def has_seen_coco(run: Run) -> bool:
    """Return whether a detector that made boxes of a run has learned from COCO's, by its model or as recorded.

    Raises:
        RunError: The run's record is damaged.
    """
    recorded = run.record.get(SEEN_COCO) if run.has_started() else None
    return bool(recorded) or _has_seen_coco(run.model)


def note_on_coco(seen: bool) -> list[str]:
    """Return a sentence if a detector has learned from COCO's boxes."""
    if not seen:
        return []
    return [
        "The detector's backbone has learned from the boxes of COCO: these are not figures of image-level labels alone."
    ]


def _has_seen_coco(model: Path) -> bool:
    try:
        return bool(read_json(model / CARD_FILE)["training"][SEEN_COCO])
    except (OSError, ValueError, KeyError, TypeError):
        return False
