"""A synthetic corpus with exact ground truth: cluttered scenes, six classes, any number of images.

Image k depends only on the seed and on k, so a corpus can be generated in any order, in pieces, and in parallel.
The same call writes the same bytes with the same versions of NumPy and OpenCV.
"""

from mining.synthetic.generator import SyntheticSummary, generate
from mining.synthetic.objects import CLASSES
from mining.synthetic.scenes import Scene, SceneObject, compose, render

__all__ = ["CLASSES", "Scene", "SceneObject", "SyntheticSummary", "compose", "generate", "render"]
