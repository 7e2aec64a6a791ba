"""A COCO JSON as image-level labels: the boxes in it are ignored. Streamed, so that its size does not matter."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import ijson

from mining.corpus.names import checked_name, is_unicode
from mining.corpus.readers.source import Source, readable
from mining.corpus.spill import Listed, Relation, Spill, pixels, whole_number
from mining.corpus.summary import sentences
from mining.corpus.walk import ImageRoot
from mining.errors import CorpusError
from mining.untrusted import JSONNestingError, ShallowJSON, open_input

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(path: Path, root: ImageRoot, table: Spill) -> Source:
    """Take in the images with the categories of their annotations; sizes as the file states them.

    Where the file has annotations, an image without one is known to have none of the classes.
    Raises CorpusError for broken JSON, no images, an id that stands twice, or an annotation of no known category.
    """
    categories = _categories(path)
    labels, listed = table.relation("coco_labels"), table.relation("coco_images")
    labels.add(_labels(path, categories))
    is_labelled = not labels.is_empty()
    if not table.add_listed(_images(path, labels if is_labelled else None, listed)):
        raise CorpusError(f"{path} lists no image: {_found(path)}; expected a COCO object with a list 'images'.")
    ids: dict[str, int] = {}
    for identity, name in categories.items():
        if isinstance(identity, int):
            ids[name] = min(identity, ids.get(name, identity))
    has_all_ids = set(ids) == set(categories.values())
    return Source("coco", path, ids if has_all_ids else None, _notes(path, table, labels, listed, len(ids), categories))


def _notes(
    path: Path, table: Spill, labels: Relation, listed: Relation, names: int, categories: dict[int | str, str]
) -> list[str]:
    strays = labels.ids_without(listed)
    ids = "1 image id" if strays == 1 else f"{strays} image ids"
    return sentences(
        (labels.is_empty(), f"{path.name} has no annotations, so no label is known."),
        (strays, f"{path.name} has annotations of {ids} that it does not list; they are left out."),
        (not table.has_ids(), f"The image ids of {path.name} are not all whole numbers; images are numbered anew."),
        (0 < names < len(categories), f"Categories of {path.name} that share a name are taken as one class."),
    )


def _items(path: Path, key: str) -> Iterator[dict[str, Any]]:
    with readable(path), open_input(path) as file:
        if file.read(3) != _BYTE_ORDER_MARK:
            file.seek(0)
        try:
            for item in ijson.items(ShallowJSON(file), f"{key}.item", use_float=True):
                if not isinstance(item, dict):
                    raise CorpusError(f"{path}: an entry of {key!r} is {item!r:.60}, not an object.")
                yield item
        except (ijson.JSONError, JSONNestingError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CorpusError(f"{path} is not valid JSON ({reason}). Is the file complete?") from error


def _found(path: Path) -> str:
    with open_input(path) as file:
        keys = [value for prefix, event, value in ijson.parse(ShallowJSON(file)) if prefix == "" and event == "map_key"]
    return f"its keys are {', '.join(map(repr, keys[:12]))}" if keys else "it has no keys"


def _key(identity: object) -> int | str:
    number = whole_number(identity)
    return str(identity) if number is None else number


def _categories(path: Path) -> dict[int | str, str]:
    found: dict[int | str, str] = {}
    for category in _items(path, "categories"):
        name = str(category.get("name") or "").strip()
        identity = _key(category.get("id"))
        if not name or not is_unicode(name) or "id" not in category:
            raise CorpusError(f"{path}: a category needs an id and a name, found {category!r:.80}.")
        if found.setdefault(identity, name) != name:
            raise CorpusError(f"{path}: category id {identity} stands for both {found[identity]!r} and {name!r}.")
    return found


def _labels(path: Path, categories: dict[int | str, str]) -> Iterator[tuple[int | str, str]]:
    for annotation in _items(path, "annotations"):
        identity = annotation.get("category_id")
        category = categories.get(_key(identity))
        if category is None:
            known = ", ".join(f"{k} {name}" for k, name in islice(categories.items(), 8)) or "empty"
            raise CorpusError(
                f"{path}: annotation {annotation.get('id')} has category_id {identity!r}, which is not in 'categories' "
                f"({known})."
            )
        yield _key(annotation.get("image_id")), category


def _images(path: Path, labels: Relation | None, listed: Relation) -> Iterator[Listed]:
    for image in _items(path, "images"):
        identity, name = image.get("id"), image.get("file_name")
        where = f"{path.name}, image id {identity!r}"
        if identity is None or not isinstance(name, str):
            raise CorpusError(f"{path}: an image needs an id and a file_name, found {image!r:.120}.")
        key = _key(identity)
        if earlier := listed.of(key):
            raise CorpusError(f"{where}: the id stands twice, for {earlier[0]!r} and {name!r}; ids must be unique.")
        name = checked_name(name, where)
        listed.add([(key, name)])
        width, height = pixels(image.get("width"), image.get("height"))
        names = None if labels is None else labels.of(key)
        yield Listed(name, names, None, whole_number(identity), width, height)
