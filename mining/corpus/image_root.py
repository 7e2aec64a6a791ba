"""The folder of the images: file names are relative to it, and results are never written into it."""

import os
from pathlib import Path

from mining.corpus.names import spelling_variants
from mining.errors import CorpusError, InputError


class ImageRoot:
    """The folder that image file names are relative to.

    Args:
        given: The folder as the user wrote it.

    Attributes:
        given: The same.
        real: Its absolute path with symbolic links resolved, without a '/' at the end.

    Raises:
        CorpusError: It is missing, is a file, or cannot be opened.
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
                f"{given} cannot be opened ({error.strerror}). Make it readable, or give another folder."
            ) from error

    def find(self, name: str) -> str | None:
        """Find a file by its name, and return the name as the disk spells it; None where there is no such file."""
        return next((variant for variant in spelling_variants(name) if self._holds(variant)), None)

    def _holds(self, name: str) -> bool:
        path = f"{self.real}/{name}"
        return os.path.isfile(path) and is_inside(os.path.realpath(path), self.real)

    def size_of(self, name: str) -> int | None:
        """Size of a file in bytes; None where it cannot be read."""
        try:
            return os.stat(f"{self.real}/{name}").st_size
        except OSError:
            return None


def is_inside(path: str, folder: str) -> bool:
    """Whether a path is the folder or lies below it; symbolic links in both must have been resolved."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def check_output_outside_images(folder: Path | str, images: Path, name: str = "--out") -> None:
    """Check that an output folder does not lie in the folder of the images, also through symbolic links.

    The next scan would take the pictures of a report or the files of an export for further images.

    Args:
        folder: The output folder, which need not exist, or an address such as s3://bucket/labels.
        images: The folder of the images.
        name: The option or setting that gives the output folder, for the message.

    Raises:
        InputError: The output folder lies in the folder of the images.
    """
    if "://" in str(folder) or not is_inside(os.path.realpath(folder), os.path.realpath(images)):
        return
    raise InputError(
        f"{name} {folder} lies in the folder of the images, {images}: the next run would take what is written there "
        "for images. Give a folder outside of it, or move the images into a folder of their own and give that one."
    )
