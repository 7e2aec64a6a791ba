"""The curves of a training are drawn in the tests that look at them."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mining.training import fit


@pytest.fixture(autouse=True)
def _quick_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an empty picture, because to draw the curves takes as long as a small training."""

    def draw_nothing(rows: Any, path: Path, metric: str) -> None:
        Image.new("L", (1, 1)).save(path, format="PNG")

    if "drawn_curves" not in request.fixturenames:
        monkeypatch.setattr(fit, "draw_curves", draw_nothing)


@pytest.fixture
def drawn_curves() -> None:
    """Ask for the curves as users see them."""
