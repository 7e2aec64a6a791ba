"""Mine images in memory: batched forward passes, the pyramid, and box extraction in worker threads."""
