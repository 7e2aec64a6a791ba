"""The page that shows localizers side by side on the same images: one file, with no network and no script."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.config import MapsSettings
from mining.errors import CorpusError, ImageError
from mining.localizers.registry import LOCALIZERS
from mining.models.card import PRETRAINED, ModelCard, read_card
from mining.models.device import resolve_device
from mining.models.pretrained import pretrained_card
from mining.reporting.map_columns import (
    REFINEMENTS,
    Cell,
    ColumnPictures,
    Photo,
    draw_column,
    read_photo,
    steps_of_column,
)
from mining.reporting.maps_inputs import find_photos, plan_columns, refuse_unknown_classes
from mining.reporting.page_files import check_maps_page
from mining.reporting.report_page import render_template
from mining.storage.files import atomic_write

ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class MapsSummary:
    """The result of `write_maps_page`.

    Attributes:
        page: The page.
        images: Number of images on it.
        localizers: Number of columns.
        skipped: Reasons of images that could not be read.
        notes: Sentences on images that were left out.
    """

    page: Path
    images: int
    localizers: int
    skipped: list[str]
    notes: list[str]


def write_maps_page(settings: MapsSettings, progress: ProgressCallback = lambda done, total: None) -> MapsSummary:
    """Write the page atomically.

    Args:
        settings: Models, images, classes and the page.
        progress: Called with the number of steps done so far and their total.

    Raises:
        ModelError: A model or the device cannot be used, or no model knows a class or serves a localizer.
        CorpusError: An image does not exist, or none can be read.
        InputError: Something else is at the path of the page.
    """
    check_maps_page(settings.out)
    paths, notes = find_photos(settings)
    columns = plan_columns(settings)
    resolve_device(settings.device)  # before models and photos are read
    cards = {model: _card(model) for model in settings.models}
    refuse_unknown_classes(settings.classes, list(cards.values()))
    photos, skipped = _read_photos(paths)
    total = len(photos) * sum(steps_of_column(cards[column.model]) for column in columns)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    progress(0, total)
    drawn = [draw_column(column, settings, photos, advance) for column in columns]
    content = _content(settings, photos, drawn)
    with atomic_write(settings.out) as temporary:
        page = render_template("maps.html.j2", **content, skipped=skipped, notes=notes)
        temporary.write_text(page, encoding="utf-8")
    return MapsSummary(settings.out, len(photos), len(columns), skipped, notes)


def _card(model: str) -> ModelCard:
    return pretrained_card(model.removeprefix(PRETRAINED)) if model.startswith(PRETRAINED) else read_card(Path(model))


def _read_photos(paths: list[Path]) -> tuple[list[Photo], list[str]]:
    photos, skipped = [], []
    for path in paths:
        try:
            photos.append(read_photo(path))
        except ImageError as error:
            skipped.append(str(error))
    if not photos:
        several = f"None of the {len(paths)} images can be read, e.g. {skipped[0]}"
        raise CorpusError(several if len(paths) > 1 else f"The image cannot be read: {skipped[0]}")
    return photos, skipped


@dataclass(frozen=True)
class _Block:
    """A section of the page: one image, one class of each model, and the cells of all columns."""

    number: int
    photo: Photo
    title: str
    cells: list[Cell | None]


def _content(settings: MapsSettings, photos: list[Photo], drawn: list[ColumnPictures]) -> dict[str, Any]:
    blocks = [
        _Block(number, photo, title, [column.cells.get((number, place)) for column in drawn])
        for number, photo in enumerate(photos)
        for place, title in enumerate(_titles(settings))
    ]
    return {
        "columns": drawn,
        "entries": LOCALIZERS,
        "photos": photos,
        "blocks": [block for block in blocks if any(block.cells)],
        "rows": [(name, "refined" if name in REFINEMENTS.values() else "scales") for name in _row_names(drawn)],
        "models": len(settings.models),
        "classes_given": bool(settings.classes),
        "has_own": any(cell.own for column in drawn for cell in column.cells.values()),
    }


def _titles(settings: MapsSettings) -> list[str]:
    """The class of each section of an image, in words; empty for the most probable one alone."""
    if settings.classes:
        return list(settings.classes)
    if settings.max_classes == 1:
        return [""]
    return ["most probable class", *(f"class of rank {rank}" for rank in range(2, settings.max_classes + 1))]


def _row_names(drawn: list[ColumnPictures]) -> list[str]:
    """The rows of the table: refinements first, then scales."""
    found = dict.fromkeys(name for column in drawn for cell in column.cells.values() for name in cell.pictures)
    refined = [name for name in REFINEMENTS.values() if name in found]
    return [*refined, *(name for name in found if name not in refined)]
