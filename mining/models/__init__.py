"""Model folders: weights as safetensors beside model.json; loading, installing, selecting classes."""
