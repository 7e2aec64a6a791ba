"""What labels and truth say alike of the same file."""


def two_sizes(file: str, name: str) -> str:
    """Why a file is refused in which one name stands for images of two sizes."""
    return (
        f"{file} lists the file name {name!r} more than once, with different sizes, so that it stands for different "
        "images. Write the names with their folders."
    )


def unknown_images(file: str, number: int) -> list[str]:
    """The sentence on images that may hold objects which could not be read, where there are any."""
    images = "1 image has" if number == 1 else f"{number} images have"
    sentence = (
        f"{images} no annotation in {file} that can be used, while others could not be used or attached to an image: "
        "what such an image holds is not known."
    )
    return [sentence] if number else []


def merged_images(file: str, number: int, what: str) -> list[str]:
    """The sentence on images that are listed more than once, where there are any. what: what was merged."""
    images = "1 image is" if number == 1 else f"{number} images are"
    return [f"{images} named more than once by {file}; the {what} are merged."] if number else []
