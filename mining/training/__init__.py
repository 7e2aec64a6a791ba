"""Training a localizer from image-level labels."""
