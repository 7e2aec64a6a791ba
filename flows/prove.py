"""What mined boxes are worth: the same detector trained on different boxes, tested on images that no step has seen."""

from flows.mine import mine
from mining.config.proof import ProofSettings
from mining.proof.folder import lock_proof, test_settings
from mining.proof.job import ProofResult, plan
from mining.proof.trainings import Training
from tasks.orchestration import step
from tasks.proving import conclude, train_on_boxes


def prove(settings: ProofSettings) -> ProofResult:
    """Train a detector on each kind of boxes, mine the test images with it, and compare the detectors."""
    boxes: dict[Training, int] = {}
    with lock_proof(settings):
        trainings = step(name="plan")(plan)(settings)
        for training in trainings:
            boxes[training] = train_on_boxes(settings, training)
            mine(test_settings(settings, training))
        return conclude(settings, boxes)
