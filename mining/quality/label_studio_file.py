"""Read what Label Studio exports as JSON: tasks with the annotations that people made."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mining.errors import InputError
from mining.quality.review_shapes import DrawnBox, ReviewedImage, ReviewFile, extent
from mining.storage.untrusted_files import read_json

REGION_TYPE = "rectanglelabels"
_REMEDY = "Export the project from Label Studio in the format JSON."


def read_label_studio(path: Path) -> ReviewFile:
    """Open a JSON export of Label Studio; tasks that nobody submitted are left out.

    Raises:
        InputError: The file cannot be read, or is no such export.
    """
    try:
        tasks = read_json(path, limit=None)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({' '.join(str(error).split()):.120}). {_REMEDY}") from None
    are_tasks = isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks)
    if not are_tasks or not all(isinstance(task.get("data"), dict) for task in tasks):
        raise InputError(f"{path} has no tasks with data and annotations, as JSON-MIN and others do not. {_REMEDY}")
    notes: list[str] = []
    return ReviewFile("Label Studio", _images(tasks, path.name, notes), notes)


def _images(tasks: list[dict[str, Any]], file: str, notes: list[str]) -> Iterator[ReviewedImage]:
    counts: Counter[str] = Counter()
    for task in tasks:
        submitted = [
            one for one in task.get("annotations") or () if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        counts["several"] += len(submitted) > 1
        if not submitted:
            counts["open"] += 1
            continue
        latest = max(submitted, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
        yield _image(task["data"], latest, counts)
    sentences = {
        "open": f"Tasks of {file} that nobody submitted, left out: {{}}.",
        "several": f"Tasks of {file} with several annotations, of which the latest counts: {{}}.",
        "shapes": f"Shapes of {file} that are no rectangles, left out: {{}}.",
        "broken": f"Rectangles of {file} without four numbers, left out: {{}}.",
    }
    notes += [sentence.format(counts[kind]) for kind, sentence in sentences.items() if counts[kind]]


def _image(data: dict[str, Any], annotation: dict[str, Any], counts: Counter[str]) -> ReviewedImage:
    boxes = []
    for region in annotation.get("result") or ():
        kind = region.get("type") if isinstance(region, dict) else None
        if kind not in (REGION_TYPE, "rectangle"):
            counts["shapes"] += kind not in ("choices", "textarea", "rating", "relation")
            continue
        box = _box(region)
        counts["broken"] += box is None
        boxes += [] if box is None else [box]
    shown = data.get("annotation_ids")
    ids = tuple(one for one in shown if isinstance(one, int)) if isinstance(shown, list) else None
    run = data.get("run")
    return ReviewedImage(tuple(_names(data)), tuple(boxes), run if isinstance(run, str) else None, ids, True)


def _names(data: dict[str, Any]) -> Iterator[str]:
    if isinstance(data.get("file_name"), str):
        yield data["file_name"]
    address = urlsplit(str(data.get("image", "")))
    yield parse_qs(address.query).get("d", [unquote(address.path)])[0].lstrip("/")


def _box(region: dict[str, Any]) -> DrawnBox | None:
    value = region.get("value")
    try:
        assert isinstance(value, dict)
        x, y, width, height = (float(value[name]) / 100 for name in ("x", "y", "width", "height"))
        degrees = float(value.get("rotation") or 0)
        sides = [float(region.get(f"original_{side}") or 1) for side in ("width", "height")]
    except (AssertionError, KeyError, TypeError, ValueError):
        return None
    # turned in pixels, around the corner at the top left, as Label Studio does
    left, top = x * sides[0], y * sides[1]
    xyxy = extent(left, top, width * sides[0], height * sides[1], degrees, (left, top))
    labels = value.get(REGION_TYPE)
    meta = region.get("meta")
    key = meta.get("box") if isinstance(meta, dict) else None
    relative = (xyxy[0] / sides[0], xyxy[1] / sides[1], xyxy[2] / sides[0], xyxy[3] / sides[1])
    return DrawnBox(str(key or region.get("id")), labels[0] if labels else None, relative)
