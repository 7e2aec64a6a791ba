"""A generated corpus with exact truth: cluttered scenes, six classes, any number of images.

Image k depends on the seed and k only, so a corpus can be made in any order, in pieces, and in parallel.
The same call gives the same bytes under the same versions of NumPy and OpenCV.
"""

from mining.synthetic.generator import SyntheticSummary, generate
from mining.synthetic.objects import CLASSES
from mining.synthetic.scenes import Scene, SceneObject, compose, render

__all__ = ["CLASSES", "Scene", "SceneObject", "SyntheticSummary", "compose", "generate", "render"]
