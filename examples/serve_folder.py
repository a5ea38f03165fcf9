"""From a folder of images to a served recogniser.

    python examples/serve_folder.py images/known 8000

Each sub-folder is a class, or each file is one. Then ask it: oneshot classify images/new
"""

import subprocess
import sys
from pathlib import Path

from app.client import Client

folder, port = Path(sys.argv[1]), sys.argv[2]
files = sorted(folder.rglob("*.png"))
labels = [file.stem if file.parent == folder else file.parent.name for file in files]

with subprocess.Popen(["oneshot", "serve", "--port", port]), Client(f"http://127.0.0.1:{port}") as client:
    client.wait_ready()
    for done in client.enroll_many(zip(labels, files, strict=True), on_conflict="add"):
        print(done.get().class_.label)
    print("ready; stop it with Ctrl-C", flush=True)
