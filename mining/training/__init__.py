"""Training from image-level labels, with Lightning."""
