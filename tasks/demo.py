"""The embedded default: a generated corpus."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def demo_folder(out: Path) -> Iterator[None]:
    """Lock the folder of a demo; refuse it as a whole where a part of it holds other things."""
    from mining.runs.run import Run
    from mining.storage.locks import lock_folder
    from mining.synthetic.generator import check_output_folder

    with lock_folder(out):
        check_output_folder(out / "corpus")
        run = Run(out / "run")
        run.refuse_foreign_folder(run.model)
        yield


def generate_corpus(out: Path, *, images: int, seed: int) -> Path:
    """Write a generated corpus with exact truth; gives its folder. The same call gives the same files."""
    from mining.synthetic import generate

    generate(out, images=images, seed=seed)
    return out
