"""Orientation of images, with the same rule for decoding, export, report and training.

Only the EXIF orientation counts, in every format. Pillow's own `getexif` and `exif_transpose` also use the XMP
orientation if EXIF has none, which JPEG decoders, browsers and most training tools do not.
"""

from PIL import Image

ORIENTATION_TAG = 0x0112
_RAW_EXIF = "Raw profile type exif"  # where ImageMagick stores EXIF in a PNG
_XMP = ("xmp", "XML:com.adobe.xmp")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied to the pixels.

    Of several EXIF blocks the first counts. The EXIF block of a PNG may follow its pixels, so load such an image
    before. Pillow rotates a TIFF while loading it: the result is the orientation of the file before, and 1 after.

    Returns:
        1 (upright) to 8; 1 if there is no orientation, or it cannot be read.
    """
    value = (
        getattr(image, "tag_v2", {}).get(ORIENTATION_TAG, 1)
        if image.format == "TIFF"
        else _exif(image).get(ORIENTATION_TAG, 1)
    )
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(image: Image.Image) -> Image.Exif:
    exif = Image.Exif()
    try:
        block = image.info.get("exif")
        if block is None and _RAW_EXIF in image.info:
            block = bytes.fromhex("".join(image.info[_RAW_EXIF].split("\n")[3:]))
        exif.load(block or b"")
        exif.get(ORIENTATION_TAG)  # Pillow parses values only on access
    except Exception:  # Pillow's parser raises any exception for damaged bytes
        return Image.Exif()
    return exif


def swaps_sides(orientation: int) -> bool:
    """Whether applying this orientation swaps width and height."""
    return orientation >= 5


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the orientation is applied."""
    is_swapped = image.format != "TIFF" and swaps_sides(
        orientation_of(image)
    )  # Pillow swaps the sides of a TIFF itself
    return (image.height, image.width) if is_swapped else image.size


def load_pixels(image: Image.Image) -> None:
    """Decode the pixels without regard to XMP, by which Pillow would rotate a TIFF."""
    drop_xmp(image)
    image.load()


def turn_upright(image: Image.Image) -> Image.Image:
    """Return the image with its orientation applied; the same object if it is upright."""
    load_pixels(image)
    orientation = orientation_of(image)
    return image.transpose(_TRANSPOSE[orientation]) if orientation > 1 else image


def is_orientation_ambiguous(image: Image.Image) -> bool:
    """Whether other readers, which follow XMP or read EXIF differently, might orient the image differently.

    Must be called before the image is loaded.
    """
    if orientation_of(image) > 1:
        return True
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF, which other readers may interpret
        return True
    return orientation in range(2, 9)


def drop_xmp(image: Image.Image) -> None:
    """Remove the XMP block of an opened image."""
    for key in _XMP:
        image.info.pop(key, None)
