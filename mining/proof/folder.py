"""The folder of a proof: its detectors, their runs on the test images, and the figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mining.config import MineSettings
from mining.config.proof import ProofSettings
from mining.corpus.listing import write_unlabelled_listing
from mining.corpus.scanner import scan
from mining.errors import InputError
from mining.ground_truth.reading import read_ground_truth
from mining.proof.trainings import Training
from mining.storage.locks import lock_folder
from mining.storage.ownership import delete_temporaries, foreign_entries, mark_folder, token_of

RECORD_FILE = "proof.json"
TEST_IMAGES = "test-images.csv"  # the names of the test images, without labels
_KIND = "proof"
_DETECTOR, _TEST = "detector", "test"
_LEAST_SCORE = 0.01  # the curve of precision over recall needs the boxes that score low, too
_ANY_ASPECT = 1e6
MIN_PRESENT = 0.5  # share of the test images that must exist, as everywhere


@contextmanager
def lock_proof(settings: ProofSettings) -> Iterator[None]:
    """Lock the proof's folder, mark it as one, and delete what a killed process left half written in it.

    Raises:
        InputError: The folder holds other things.
        RunError: Another process holds the lock.
    """
    _refuse_foreign_folder(settings.out)
    with lock_folder(settings.out):
        _refuse_foreign_folder(settings.out)
        mark_folder(settings.out, _KIND)
        delete_temporaries(settings.out)
        yield


def _refuse_foreign_folder(out: Path) -> None:
    if out.is_file():
        raise InputError(f"{out} is a file; give a folder as `out`.")
    if token_of(out, _KIND) is None and (foreign := foreign_entries(out)):
        raise InputError(
            f"{out} holds other things (e.g. {foreign[0]!r}) and is no proof; give a new or an empty folder as `out`. "
            "Nothing in it was touched."
        )


def list_test_images(settings: ProofSettings) -> None:
    """Write the list of the test images, those of their ground truth, and check that most of them exist.

    Raises:
        ScoringError: The ground truth cannot be used.
        CorpusError: The images are missing.
    """
    names = read_ground_truth(settings.test.truth).file_names
    write_unlabelled_listing(names, settings.out / TEST_IMAGES)
    with TemporaryDirectory() as folder:
        scan(settings.test.images, settings.out / TEST_IMAGES, Path(folder) / "corpus.parquet", min_present=MIN_PRESENT)


def detector_of(settings: ProofSettings, training: Training) -> Path:
    """Return the model folder of a training."""
    return settings.out / training.name / _DETECTOR


def test_run_of(settings: ProofSettings, training: Training) -> Path:
    """Return the run directory of the test images, mined with a training's detector."""
    return settings.out / training.name / _TEST


def test_settings(settings: ProofSettings, training: Training) -> MineSettings:
    """Return how the test images are mined: all classes, low scores too, boxes of any size."""
    return MineSettings(
        images=settings.test.images, labels=settings.out / TEST_IMAGES, model=str(detector_of(settings, training)),
        out=test_run_of(settings, training), min_score=_LEAST_SCORE, min_area=0.0, max_aspect=_ANY_ASPECT,
        min_present=MIN_PRESENT, device=settings.detector.device,
    )  # fmt: skip
