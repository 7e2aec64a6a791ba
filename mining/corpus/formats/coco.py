"""COCO JSON, read in the same way as labels and as ground truth.

Ids are compared as text, so that 7, 7.0 and "7" are one id. Entries that cannot be used are skipped and counted; a file
that is ambiguous as a whole is refused.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mining.corpus.formats.json_items import JSONFile, JSONListFile
from mining.corpus.formats.notes import SkippedEntries
from mining.corpus.names import NameOutsideRootError, is_valid_unicode, normalise_class_name, normalise_file_name
from mining.errors import CorpusError

IMAGES, ANNOTATIONS, CATEGORIES = "images", "annotations", "categories"
_INT64 = range(-(2**63), 2**63)
_NO_IMAGE_ID = "have no image_id"
_NOT_LISTED = "have an image_id that the file does not list"
_LEFT_OUT = "belong to an image that was skipped"
_NO_CATEGORY = "have a category_id that the file does not list"


class CocoImage(NamedTuple):
    """One entry of `images`.

    Attributes:
        key: The id as text.
        number: The id as a 64-bit integer, if it is one.
        name: File name; empty for an image that was skipped.
        width: Width as written, of any type.
        height: Height as written, of any type.
    """

    key: str
    number: int | None
    name: str
    width: Any
    height: Any


class ImagesByKey:
    """The images of a COCO file by their keys."""

    def __init__(self) -> None:
        self.by_key: dict[str, CocoImage] = {}

    def get(self, key: str) -> str | None:
        """Return the name of an image, None for an unknown key."""
        image = self.by_key.get(key)
        return None if image is None else image.name

    def add(self, image: CocoImage) -> str | None:
        """Store an image under its key, unless the key has a name already; return that name."""
        earlier = self.get(image.key)
        if not earlier:
            self.by_key[image.key] = image
        return earlier or None


class CocoAnnotation(NamedTuple):
    """One entry of `annotations` that belongs to a listed image.

    Attributes:
        image: The image's key.
        category: Class name; None if the file does not list the category.
        entry: The whole entry, as written.
    """

    image: str
    category: str | None
    entry: dict[str, Any]

    @property
    def label(self) -> str:
        """How the entry is named in messages."""
        return annotation_label(self.entry)


class ImageNames(Protocol):
    """The names of the images by their keys, empty for an image that was skipped; kept in memory or on disk."""

    def get(self, key: str, /) -> str | None:
        """The name of an image; None for an unknown key."""

    def add(self, image: CocoImage, /) -> str | None:
        """Add an image. If its key has a name already, that name is kept and returned."""


def annotation_label(entry: dict[str, Any]) -> str:
    """How an annotation is named in messages."""
    return f"annotation {entry.get('id')!r}"


def id_key(identity: Any) -> str | None:
    """Convert an id to text; None for values that are not ids (null, true, NaN, a list, empty text)."""
    if isinstance(identity, bool):
        return None
    if isinstance(identity, float) and math.isfinite(identity) and identity.is_integer():
        identity = int(identity)
    if isinstance(identity, str):
        return identity.strip() or None
    is_number = isinstance(identity, int) or (isinstance(identity, float) and math.isfinite(identity))
    return str(identity) if is_number else None


def id_number(key: str) -> int | None:
    """Convert a key to an integer; None if it is not a whole number of 64 bits."""
    digits = key.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and str(int(key)) == key):
        return None
    return int(key) if int(key) in _INT64 else None


class CocoFile:
    """A COCO file; its lists are streamed, in this order: categories, images, annotations.

    Args:
        path: The file.
        is_results: Whether the file is a COCO results list, which holds annotations alone.

    Attributes:
        left_out: The entries that were skipped so far.
        is_sharing_names: Whether categories of different ids share a name.
        unattached: Number of annotations so far that belong to no listed image.
    """

    def __init__(self, path: Path, *, is_results: bool = False) -> None:
        self.path = path
        self.left_out = SkippedEntries(path.name)
        self.json = JSONListFile(path) if is_results else JSONFile(path)
        self.is_sharing_names = False
        self.unattached = 0

    def categories(self) -> dict[str, str]:
        """Read the class name of each category id, as text.

        Raises:
            CorpusError: An id stands for two names, or the file is not valid JSON.
        """
        names: dict[str, str] = {}
        for category in self._entries(CATEGORIES):
            key = id_key(category.get("id"))
            written = category.get("name")
            name = normalise_class_name(written) if isinstance(written, str) else ""
            if key is None or not name or not is_valid_unicode(name):
                self.left_out.add(CATEGORIES, "have no id or no name", f"{category!r:.50}")
            elif names.setdefault(key, name) != name:
                raise CorpusError(
                    f"{self.path}: category id {key} stands for both {names[key]!r} and {name!r}. Ids must be unique."
                )
        self.is_sharing_names = len(set(names.values())) < len(names)
        return names

    def read_images(self, names: ImageNames) -> None:
        """Add the images to `names`, each key once; skipped images get an empty name.

        Raises:
            CorpusError: An id stands for two names, or the file lists no image.
        """
        is_empty = True
        for entry in self._entries(IMAGES):
            image = self._image(entry)
            if image is None:
                continue
            earlier = names.add(image)
            if earlier and image.name and earlier != image.name:
                raise CorpusError(
                    f"{self.path}: image id {image.key} occurs twice, for {earlier!r} and {image.name!r}. Ids must be "
                    "unique."
                )
            is_empty = is_empty and not image.name
        if is_empty:
            raise CorpusError(
                f"{self.path} lists no image: {self.left_out.reasons(IMAGES) or self._contents()}; expected a COCO "
                "object with a list 'images', whose entries have an id and a file_name."
            )

    def annotations(self, categories: dict[str, str], names: ImageNames) -> Iterator[CocoAnnotation]:
        """Read the annotations of listed images, including those of unknown categories."""
        for entry in self._entries(ANNOTATIONS):
            image, category = id_key(entry.get("image_id")), id_key(entry.get("category_id"))
            listed = None if image is None else names.get(image)
            if image is None or not listed:
                is_left_out = listed == ""
                self.unattached += not is_left_out
                self._leave_out(entry, _NO_IMAGE_ID if image is None else _LEFT_OUT if is_left_out else _NOT_LISTED)
                continue
            name = None if category is None else categories.get(category)
            if name is None:
                self._leave_out(entry, _NO_CATEGORY)
            yield CocoAnnotation(image, name, entry)

    def refuse_if_unusable(self, categories: dict[str, str]) -> None:
        """Check that some annotation can be used, if there are any.

        Raises:
            CorpusError: All annotations were skipped.
        """
        number = self.left_out.seen(ANNOTATIONS)
        if number and self.left_out.number(ANNOTATIONS) == number:
            known = ", ".join(f"{key} {name}" for key, name in islice(categories.items(), 8)) or "none"
            raise CorpusError(
                f"No annotation of {self.path} can be used: {self.left_out.reasons(ANNOTATIONS)}. "
                f"The categories in the file: {known}. Correct the ids in the file."
            )

    def notes(self) -> list[str]:
        """Notes on entries that were skipped or merged, one sentence per reason."""
        shared = f"Categories of {self.path.name} with the same name are merged into one class."
        return [*self.left_out.notes(), *([shared] if self.is_sharing_names else [])]

    def _entries(self, key: str) -> Iterator[dict[str, Any]]:
        for item in self.json.items(key):
            self.left_out.see(key)
            if isinstance(item, dict):
                yield item
            else:
                self.unattached += key == ANNOTATIONS
                self.left_out.add(key, "are not JSON objects", f"{item!r:.40}")

    def _leave_out(self, entry: dict[str, Any], why: str) -> None:
        field = "category_id" if why == _NO_CATEGORY else "image_id"
        self.left_out.add(ANNOTATIONS, why, f"{annotation_label(entry)} with {field} {entry.get(field)!r}")

    def _image(self, image: dict[str, Any]) -> CocoImage | None:
        """The image, without a name if its file name cannot be used; None if it has no id."""
        key, written = id_key(image.get("id")), image.get("file_name")
        where = f"image id {image.get('id')!r}"
        if key is None or not isinstance(written, str):
            self.left_out.add(IMAGES, "have no id or no file_name", f"{image!r:.60}")
            # keeping the id shows that its annotations belong to no other image
            return None if key is None else CocoImage(key, None, "", None, None)
        try:
            name = normalise_file_name(written, where)
        except NameOutsideRootError as error:
            raise NameOutsideRootError(f"{self.path.name}, {error}") from None
        except CorpusError as error:
            self.left_out.add(IMAGES, "have a file_name that cannot be used", str(error).partition(". ")[0])
            return CocoImage(key, None, "", None, None)
        return CocoImage(key, id_number(key), name, image.get("width"), image.get("height"))

    def _contents(self) -> str:
        keys = self.json.keys()
        return f"its keys are {', '.join(map(repr, islice(keys, 12)))}" if keys else "it has no keys"
