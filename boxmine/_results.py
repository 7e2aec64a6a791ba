"""What the functions return, besides runs."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from boxmine._html import html_table

if TYPE_CHECKING:
    from typing import Unpack

    import pandas as pd

    from boxmine._keywords import ExtractionKeywords
    from boxmine._localizer import Localizer
    from mining.evaluation.scores import Scores as ScoresContent
    from mining.training.summary import TrainingSummary


class TrainedModel(os.PathLike[str]):
    """A model folder that `train` wrote; accepted wherever a model is asked for.

    Attributes:
        path: The model folder.
        summary: Counts, the epoch whose weights were kept, and the validation metric.
    """

    def __init__(self, summary: "TrainingSummary") -> None:
        self.path = summary.folder
        self.summary = summary

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        from mining.models.card import read_card

        return read_card(self.path).class_names

    def load(self, **options: "Unpack[ExtractionKeywords]") -> "Localizer":
        """Load the model into memory; see `boxmine.load_model`."""
        from boxmine._localizer import load_model

        return load_model(self, **options)

    def __repr__(self) -> str:
        value = "" if self.summary.value is None else f", {self.summary.metric} {self.summary.value:.3f}"
        return f"TrainedModel({str(self.path)!r}, {self.summary.classes} classes{value})"

    def _repr_html_(self) -> str:
        names = ("classes", "images", "validation_images", "epochs", "best_epoch", "metric", "value", "seconds")
        rows = [(name, getattr(self.summary, name)) for name in names]
        return html_table(f"Model {self.path}", rows)


class _Figures(Mapping[str, Any]):
    """Figures as a read-only mapping, shown as a table in notebooks."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @abstractmethod
    def _rows(self) -> list[tuple[str, str, str]]:
        """Return (figure, value, meaning)."""

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._rows(), ("figure", "value", "meaning"))


class Scores(_Figures):
    """The scores of a run against ground truth: the content of scores.json as a read-only mapping.

    Shares are in [0, 1]; None where nothing can be counted.
    """

    @property
    def corloc(self) -> float | None:
        """Share of (image, class) pairs whose best-scored box has IoU >= 0.5 with a true box of the class."""
        return self._values["corloc"]["value"]

    @property
    def corloc_ci95(self) -> tuple[float, float] | None:
        """95 % interval of CorLoc: percentile bootstrap over images."""
        interval = self._values["corloc"]["ci95"]
        return None if interval is None else (interval[0], interval[1])

    @property
    def precision(self) -> float | None:
        """Share of the mined boxes that have IoU >= 0.5 with a true box of their class, each true box counted once."""
        scores = self._values.get("precision")
        return None if scores is None else scores["value"]

    @property
    def cuts(self) -> "pd.DataFrame":
        """What is left if boxes that score low are dropped: columns min_score, boxes, precision, recall."""
        import pandas as pd

        columns = ["min_score", "boxes", "precision", "recall"]
        return pd.DataFrame(self._values.get("precision_by_min_score") or [], columns=columns)

    @property
    def notes(self) -> list[str]:
        """Sentences about images and boxes that were not scored."""
        return list(self._values["notes"])

    @property
    def warnings(self) -> list[str]:
        """Sentences about boxes that mean little, or a model that does not localize, with the remedy."""
        return list(self._values.get("warnings", []))

    @property
    def table(self) -> "pd.DataFrame":
        """All figures with their definitions: columns figure, value, meaning."""
        import pandas as pd

        return pd.DataFrame(self._rows(), columns=["figure", "value", "meaning"])

    def _rows(self) -> list[tuple[str, str, str]]:
        from mining.reporting.score_rows import score_rows

        return score_rows(cast("ScoresContent", self._values))

    def __repr__(self) -> str:
        if self.corloc is None or self.corloc_ci95 is None:
            return "Scores(corloc=None)"
        low, high = self.corloc_ci95
        return f"Scores(corloc={self.corloc:.3f}, 95 % {low:.3f} to {high:.3f}, {self['images']['scored']} images)"


class Comparison(_Figures):
    """What changed from one run to another, as a read-only mapping.

    Attributes:
        page: The HTML page that shows the changed boxes.
    """

    def __init__(self, values: Mapping[str, Any], page: Path) -> None:
        super().__init__(values)
        self.page = page

    def _rows(self) -> list[tuple[str, str, str]]:
        from mining.reporting.score_rows import comparison_rows

        return comparison_rows(dict(self._values))

    def __repr__(self) -> str:
        pairs = self["pairs"]
        return f"Comparison({pairs['same']} boxes the same, {pairs['moved']} moved, page={str(self.page)!r})"
