"""A camera for drawings: it turns drawn symbols into pictures as users take them, in batches of tensor operations.

``Camera`` composes each picture in one pass: ground, card, symbol, light, lens, noise and compression. Nothing waits
for the device, and nothing loops over images.
"""

from training.camera.camera import Camera, CameraPart
from training.camera.grounds import pack_grounds, read_grounds, unpack_grounds
from training.camera.rendition import photograph

__all__ = ["Camera", "CameraPart", "pack_grounds", "photograph", "read_grounds", "unpack_grounds"]
