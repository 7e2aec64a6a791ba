"""Where results may be written: never among the images."""

import os
from pathlib import Path

from mining.corpus.file_walker import is_inside
from mining.errors import InputError


def refuse_inside_images(folder: Path | str, images: Path, name: str = "--out") -> None:
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
