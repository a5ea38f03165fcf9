"""The camera of ``symbols``: what it costs beside a training step, and what its pictures look like.

    python -m benchmarks.camera --picture docs/images/camera.jpg

Costs are of one image; run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from model.manifest import PreprocessSpec, ResidualSpec
from model.networks import ResidualNet
from testing.drawings import DRAWERS, SIDE, drawings
from training.camera import Camera, CameraPart, read_grounds, unpack_grounds

_STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def picture(camera_of: Callable[[CameraPart], Camera], seed: int) -> Image.Image:
    """Return one row per drawing: a clean picture, then photographs of increasing strength."""
    shown, generator = drawings(), torch.Generator().manual_seed(seed)
    columns = [camera_of(CameraPart(clean=1))(shown[:, None], generator)]
    for strength in _STRENGTHS:
        part = CameraPart(clean=0, scan=0, weakest=strength, strength=strength)
        columns += [camera_of(part)(shown[:, None], generator)]
    grid = torch.stack(columns, 1)
    grid = torch.nn.functional.pad(grid, (1, 1, 1, 1), value=1.0)
    n, m, _, height, width = grid.shape
    pixels = grid.permute(0, 3, 1, 4, 2).reshape(n * height, m * width, 3)
    return Image.fromarray((pixels * 255).round().byte().numpy())


def cost(call: Callable[[], object], images: int, device: torch.device, repeats: int) -> float:
    """Return the median milliseconds per image."""
    seconds = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[2:]) / images


def main() -> None:
    """Print what the camera costs; draw the picture if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="Write rows of drawings and their photographs here.")
    parser.add_argument("--data", type=Path, help="Lay photographs of caltech101 in this folder under the symbols.")
    parser.add_argument("--grounds", type=Path, help="The same, from a file that pack_grounds wrote.")
    parser.add_argument("--compiled", action="store_true", help="Let torch fuse the camera's operations.")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--classes", type=int, default=64)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grounds = read_grounds(options.data) if options.data else None
    grounds = unpack_grounds(options.grounds) if options.grounds else grounds
    if options.picture:
        picture(lambda part: Camera(part, grounds, options.size), options.seed).save(options.picture, quality=90)
        return
    device = torch.device(options.device)
    generator = torch.Generator(device).manual_seed(options.seed)
    shape = (options.classes, options.images, 4, SIDE, SIDE)
    shown = (
        drawings().to(device)[torch.arange(options.classes * options.images, device=device) % len(DRAWERS)].view(shape)
    )
    camera = Camera(CameraPart(), grounds, options.size, compiled=options.compiled)
    spec = ResidualSpec(stem=32, widths=(64, 128, 256), dim=256)
    network = ResidualNet(spec, PreprocessSpec(size=options.size, channels=3)).to(device)
    images = camera(shown, generator).contiguous(memory_format=torch.channels_last)

    if device.type == "cuda":  # raise if anything synchronises with the GPU; the call above has moved the tables there
        torch.cuda.set_sync_debug_mode("error")
        camera(shown, generator)
        torch.cuda.set_sync_debug_mode("default")

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = network(images).float().square().mean()
        loss.backward()

    n = options.classes * options.images
    photographing = cost(lambda: camera(shown, generator), n, device, options.repeats)
    training = cost(step, n, device, options.repeats)
    print(
        f"{photographing:.3f} ms a picture, {training:.3f} ms for the network's forward and backward pass: the camera "
        f"is {100 * photographing / (photographing + training):.1f} % of both; {n} pictures of {options.size} pixels, "
        f"{options.threads} threads, {device}, {options.precision}{', compiled' * options.compiled}"
    )


if __name__ == "__main__":
    main()
