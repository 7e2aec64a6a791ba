"""The images of a run whose true boxes its model learned from."""

from pathlib import Path

from mining.models.card import read_card
from mining.runs.run import Run, read_table


def taught_images(run_dir: Path) -> frozenset[str]:
    """Return the file names of the images whose true boxes the run's model learned from, by their content.

    Args:
        run_dir: Run directory.

    Raises:
        ModelError: The model's record is damaged.
        RunError: The corpus table is missing or damaged.
    """
    run = Run(run_dir)
    if not (run.model / "model.json").is_file():
        return frozenset()
    taught = read_card(run.model).taught_images
    if not taught:
        return frozenset()
    corpus = read_table(run.corpus, ["file_name", "content_hash"])
    rows = zip(corpus["file_name"].to_pylist(), corpus["content_hash"].to_pylist(), strict=True)
    return frozenset(name for name, digest in rows if digest in taught)
