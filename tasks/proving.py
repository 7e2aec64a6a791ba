"""Tasks of a proof: train a detector on one kind of boxes, compare all of them."""

from mining.config.proof import ProofSettings
from mining.proof import job
from mining.proof.job import ProofResult
from mining.proof.trainings import Training
from tasks.detectors import takes_several_devices, train_on_devices, without_loader_processes
from tasks.orchestration import report, step
from tasks.progress import Stage
from tasks.trainer import train_detector_of_proof


@step(name="train on boxes")
def train_on_boxes(settings: ProofSettings, training: Training) -> int:
    """Train a detector on one kind of boxes; returns their number."""
    stage = Stage(training.name, settings.detector.epochs)

    def progress(done: int, total: int, text: str) -> None:
        stage.reach(done, total, text)

    if takes_several_devices(settings):
        return train_on_devices(train_detector_of_proof, settings, training.name, progress)
    return job.train_on_boxes(without_loader_processes(settings), training, progress)


@step(name="conclude")
def conclude(settings: ProofSettings, boxes: dict[Training, int]) -> ProofResult:
    """Compare the detectors, write the page, and show the figures."""
    from mining.proof.page import write_page

    result = job.conclude(settings, boxes)
    write_page(settings, result)
    report(_show, result)
    return result


def _show(result: ProofResult) -> None:
    from prefect.artifacts import create_table_artifact

    rows = [{"boxes": arm, "AP50": one.value, "95 %": list(one.ci95)} for arm, one in result.ap50.items()]
    create_table_artifact(rows, key="proof", description="" if result.worth is None else result.worth.text)
