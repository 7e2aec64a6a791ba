"""How an image is turned: the one rule for decoding, export, report and training.

The EXIF orientation alone counts, in every format. Pillow's own `getexif` and `exif_transpose` also use the XMP
orientation where EXIF has none, which JPEG decoders, browsers and most training tools do not.
"""

from PIL import Image

ORIENTATION_TAG = 0x0112
_RAW_EXIF = "Raw profile type exif"  # how ImageMagick keeps EXIF in a PNG
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
    """The EXIF orientation that the pixels still have to be turned by, 1 (upright) to 8.

    1 where there is none, where its value is not one of these, and where the EXIF block cannot be read. Of several
    EXIF blocks the first counts. A PNG may hold its EXIF block behind the pixels: load such an image before.
    Pillow turns a TIFF when it loads it: the orientation is that of the file before, and 1 after.
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
        exif.get(ORIENTATION_TAG)  # values are parsed when they are asked for
    except Exception:  # damaged bytes make Pillow's parser raise whatever they make it trip over
        return Image.Exif()
    return exif


def swaps_sides(orientation: int) -> bool:
    """Whether turning by this orientation exchanges width and height."""
    return orientation >= 5


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after turning."""
    is_swapped = image.format != "TIFF" and swaps_sides(orientation_of(image))  # Pillow has a TIFF's swapped
    return (image.height, image.width) if is_swapped else image.size


def load_pixels(image: Image.Image) -> None:
    """Decode the image, without regard to XMP: Pillow would turn a TIFF by it."""
    drop_xmp(image)
    image.load()


def turn_upright(image: Image.Image) -> Image.Image:
    """The image turned by its orientation, or itself where it is upright."""
    load_pixels(image)
    orientation = orientation_of(image)
    return image.transpose(_TRANSPOSE[orientation]) if orientation > 1 else image


def is_orientation_ambiguous(image: Image.Image) -> bool:
    """Whether readers that follow XMP, or another way of reading EXIF, would turn the image otherwise.

    To be asked before the image is loaded.
    """
    if orientation_of(image) > 1:
        return True
    try:
        followed = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: other readers may make something of it
        return True
    return followed in range(2, 9)


def drop_xmp(image: Image.Image) -> None:
    """Drop the XMP block of an opened image."""
    for key in _XMP:
        image.info.pop(key, None)
