"""Warnings of the trainings of the models that a run's boxes are from."""

from mining.runs.run import Run

MODEL_WARNINGS = "model_warnings"  # of run.json, where the boxes are from several models


def warnings_of_models(run: Run) -> list[str]:
    """Return the sentences that the trainings of a run's models recorded about labels or maps that teach little.

    Args:
        run: A finished run. One that was made of several has those of all of them, others those of their model card.
    """
    return [str(sentence) for sentence in run.record.get(MODEL_WARNINGS, run.card.warnings)]
