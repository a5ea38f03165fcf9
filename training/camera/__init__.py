"""A simulated camera: it turns drawings of symbols into photographs like those of users, by batched tensor operations.

``Camera`` composes each picture in one pass: ground, card, symbol, light, lens, noise and compression. There are no
device synchronisations and no loops over images.
"""

from training.camera.camera import Camera, CameraPart
from training.camera.grounds import pack_grounds, read_grounds, unpack_grounds
from training.camera.rendition import photograph

__all__ = ["Camera", "CameraPart", "pack_grounds", "photograph", "read_grounds", "unpack_grounds"]
