"""A digest of the weights of a network, by which kept results are recognised as its own."""

import hashlib

import torch
from torch import nn


def digest_weights(network: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, their names, shapes and types, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
