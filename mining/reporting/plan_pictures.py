"""Pictures of the rows of an audit's plan, and one page with all of them, to judge boxes in a spreadsheet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from mining.corpus.images.decoding import full_size, read_reduced, resolve_image_path
from mining.errors import ImageError
from mining.quality.judgements import Box
from mining.quality.plan_rows import PlanPicture
from mining.reporting.picture_layers import JPEG_QUALITY, size_within
from mining.reporting.report_page import render_template
from mining.runs.run import Run
from mining.storage.folders import atomic_folder, refuse_occupied_folder

PAGE = "index.html"
BOX_SIDE = 360
IMAGE_SIDE = 960
_AROUND = 1.0  # what is shown on each side of a box, in its width and height
_LEAST_SHARE = 0.4  # of the image's sides that is shown at least
_COLOURS = ("#ff2d55", "#00c7be", "#ffd60a", "#5e5ce6", "#ff9f0a", "#30d158")


@dataclass(frozen=True)
class DrawnPicture:
    """A picture on the page: its row, its file, and its size in px."""

    row: PlanPicture
    width: int
    height: int


def draw_plan_pictures(run: Run, folder: Path, pictures: Sequence[PlanPicture]) -> set[int]:
    """Draw the pictures of a plan and the page that shows them, all or none.

    Args:
        run: The run.
        folder: A new or empty folder.
        pictures: What each shows.

    Returns:
        The lines of those that could be drawn: an image that can no longer be read, or was replaced, has none.

    Raises:
        InputError: The folder is occupied.
        StorageError: The disk refuses.
    """
    refuse_occupied_folder(folder)
    hashes = run.read_corpus(["file_name", "content_hash"]).to_pydict()
    digest_of = dict(zip(hashes["file_name"], hashes["content_hash"], strict=True))
    with atomic_folder(folder) as temporary:
        drawn = []
        for name, group in groupby(sorted(pictures, key=_file_name), key=_file_name):
            try:
                pixels, _ = read_reduced(resolve_image_path(run.image_root, name), full_size, digest_of.get(name))
            except ImageError:
                continue
            drawn += list(_draw(pixels, list(group), temporary))
        drawn.sort(key=lambda one: one.row.line)
        page = render_template("plan.html.j2", run=run.name, pictures=drawn, left_out=len(pictures) - len(drawn))
        (temporary / PAGE).write_text(page, encoding="utf-8")
    return {one.row.line for one in drawn}


def _file_name(picture: PlanPicture) -> str:
    return picture.file_name


def _draw(pixels: Tensor, pictures: Sequence[PlanPicture], folder: Path) -> Iterator[DrawnPicture]:
    """Draw and write the pictures of one image."""
    whole = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    for picture in pictures:
        edges = (0, 0, *whole.size) if picture.is_whole else _surroundings(picture.boxes[0].xywh, whole.size)
        part = whole.crop(edges)
        if picture.is_whole:
            height, width = size_within(part.height, part.width, IMAGE_SIDE)
        else:  # a small one is enlarged
            height, width = (max(1, round(side * BOX_SIDE / max(part.size))) for side in (part.height, part.width))
        scale = width / part.width
        shown = part.resize((width, height), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(shown)
        for number, box in enumerate(picture.boxes):
            x, y, w, h = box.xywh
            left, top = (x - edges[0]) * scale, (y - edges[1]) * scale
            corners = (left, top, left + max(1.0, w * scale - 1), top + max(1.0, h * scale - 1))
            colour = _COLOURS[number % len(_COLOURS)]
            draw.rectangle(corners, outline="black", width=4)
            draw.rectangle(corners, outline=colour, width=2)
            if picture.is_whole:
                _label(draw, (left, top), f"{box.annotation_id} {box.category}", colour)
        shown.save(folder / picture.name, "JPEG", quality=JPEG_QUALITY)
        yield DrawnPicture(picture, width, height)


def _surroundings(xywh: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that is shown with a box, as edges in px."""
    edges = []
    for start, length, limit in zip(xywh[:2], xywh[2:], size, strict=True):
        around = max(_AROUND * length, (_LEAST_SHARE * limit - length) / 2)
        edges.append((max(0, int(start - around)), min(limit, int(start + length + around) + 1)))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _label(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str) -> None:
    """Write a text on a plate inside the box's corner."""
    left, top, right, bottom = draw.textbbox((corner[0] + 4, corner[1] + 3), text)
    draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill="black")
    draw.text((corner[0] + 4, corner[1] + 3), text, fill=colour)
