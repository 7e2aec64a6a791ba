"""Reading image files: formats, orientation, pixel values, and a budget for the memory of decoding."""
