"""Model folders: weights as safetensors beside model.json."""
