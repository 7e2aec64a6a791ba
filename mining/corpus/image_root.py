"""Where results may be written: never among the images."""

import os
from pathlib import Path

from mining.corpus.names import spelling_variants
from mining.errors import CorpusError, InputError


def check_output_outside_images(folder: Path | str, images: Path, name: str = "--out") -> None:
    """Raise InputError where a folder to be written lies in the folder of images, through links too.

    The next listing of the images would take a report's pictures, an export or another run's files for more of them.
    folder: need not exist; an address such as s3://bucket/labels passes. name: what the user calls it.
    """
    if "://" in str(folder) or not is_inside(os.path.realpath(folder), os.path.realpath(images)):
        return
    raise InputError(
        f"{name} {folder} lies in the folder of the images, {images}: the next run would take what is written there "
        f"for images. Give a folder outside of it, or move the images into a folder of their own and give that one."
    )


def is_inside(path: str, folder: str) -> bool:
    """Whether a real path is the folder or lies below it; both without links."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class ImageRoot:
    """The folder that image names are relative to.

    given: as the user wrote it; real: the same without links, ends in no '/'.
    Raises CorpusError where it is not a folder that can be read.
    """

    def __init__(self, given: Path) -> None:
        self.given = given
        self.real = os.path.realpath(given)
        try:
            os.scandir(self.real).close()
        except FileNotFoundError:
            raise CorpusError(f"{given} does not exist. Give --images the folder that holds the images.") from None
        except NotADirectoryError:
            raise CorpusError(f"{given} is a file. Give --images the folder that holds the images.") from None
        except OSError as error:
            raise CorpusError(
                f"{given} cannot be opened ({error.strerror}). Allow reading it, or give another folder."
            ) from error

    def find(self, name: str) -> str | None:
        """The name as the disk spells it, or None where no file below the root has it."""
        return next((spelled for spelled in spelling_variants(name) if self._holds(spelled)), None)

    def _holds(self, name: str) -> bool:
        path = f"{self.real}/{name}"
        return os.path.isfile(path) and is_inside(os.path.realpath(path), self.real)

    def size_of(self, name: str) -> int | None:
        """Bytes of the file, None where it cannot be told."""
        try:
            return os.stat(f"{self.real}/{name}").st_size
        except OSError:
            return None
