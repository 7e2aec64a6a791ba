"""Photos in the size that a browser needs, decoded once and kept in a folder of limited size."""

import hashlib
import io
import re
import threading
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw

from mining.errors import BoxmineError
from mining.quality.judgements import Box
from mining.review.run_index import ImageInfo
from mining.runs.run import Run
from mining.storage.files import atomic_write

SIDES = (240, 1280)  # of thumbnails and of the large picture
JPEG_QUALITY = 85
CACHE_BYTES = 500_000_000
_AROUND = 0.5  # what is shown on each side of a box, in its longer side
_COLOUR = "#ff2d55"
_NAME = re.compile(rf"[0-9a-f]{{24}}-({'|'.join(map(str, SIDES))})\.jpg")


class PictureFolder:
    """A folder of pictures of limited size; files in it may be deleted at any time.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, limit: int = CACHE_BYTES) -> None:
        self.path, self._limit = path, limit
        self._lock = threading.Lock()
        self._bytes = sum(size for _, size, _ in _kept_in(path))

    def keep(self, name: str, content: bytes) -> None:
        """Keep a picture, and delete the oldest ones where there are too many."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path / name) as temporary:
                temporary.write_bytes(content)
        except (OSError, BoxmineError):
            return  # a full disk costs speed, not the picture
        with self._lock:
            self._bytes += len(content)
            if self._bytes > self._limit:
                self._bytes = _shrink(self.path, self._limit // 2)


class Pictures:
    """The pictures of a run's images, kept in a folder."""

    def __init__(self, run: Run, folder: PictureFolder) -> None:
        self._run, self._folder = run, folder

    def jpeg(self, image: ImageInfo, side: int) -> bytes:
        """Return a picture that is at most `side` px long.

        Raises:
            ImageError: The image cannot be read, or is another one than was mined.
        """
        name = f"{_key(self._run, image)}-{side}.jpg"
        try:
            content = (self._folder.path / name).read_bytes()
        except OSError:
            content = self._encode(image, side)
            self._folder.keep(name, content)
        return content

    def crop(self, image: ImageInfo, box: Box, side: int) -> bytes:
        """Return a box with what surrounds it, the box outlined; `side` px long.

        Raises:
            ImageError: As for `jpeg`.
        """
        whole = Image.open(io.BytesIO(self.jpeg(image, SIDES[1])))
        scale = whole.width / image.width
        x, y, w, h = (edge * scale for edge in box)
        around = max(w, h) * _AROUND + 4
        part = whole.crop((
            max(0, int(x - around)), max(0, int(y - around)), min(whole.width, int(x + w + around) + 1),
            min(whole.height, int(y + h + around) + 1),
        ))  # fmt: skip
        left, top = x - max(0, int(x - around)), y - max(0, int(y - around))
        stretch = side / max(part.size)
        shown = part.resize([max(1, round(edge * stretch)) for edge in part.size])
        corners = tuple(edge * stretch for edge in (left, top, left + max(1, w), top + max(1, h)))
        draw = ImageDraw.Draw(shown)
        draw.rectangle(corners, outline="black", width=4)
        draw.rectangle(corners, outline=_COLOUR, width=2)
        file = io.BytesIO()
        shown.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()

    def _encode(self, image: ImageInfo, side: int) -> bytes:
        # imported here: with torch, this takes longer than the whole start of the application
        from mining.corpus.images.decoding import read_reduced, resize_image, resolve_image_path
        from mining.reporting.picture_layers import size_within

        source = resolve_image_path(self._run.image_root, image.file_name)
        pixels, (height, width) = read_reduced(source, lambda h, w: size_within(h, w, side), image.content_hash)
        small = resize_image(pixels, size_within(height, width, side))
        file = io.BytesIO()
        Image.fromarray(small.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()


def _key(run: Run, image: ImageInfo) -> str:
    return hashlib.sha256(f"{run.image_root}/{image.file_name}/{image.content_hash}".encode()).hexdigest()[:24]


def _shrink(folder: Path, limit: int) -> int:
    """Delete the oldest pictures of a folder until they take at most `limit` bytes; returns what is left."""
    found = sorted(_kept_in(folder))
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size
    return total


def _kept_in(folder: Path) -> list[tuple[int, int, Path]]:
    """Time, size in bytes and path of the pictures in a folder that this module made, by their names."""
    found = []
    for path in folder.glob("*.jpg"):
        if _NAME.fullmatch(path.name):
            with suppress(OSError):  # another process deleted it
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
    return found
