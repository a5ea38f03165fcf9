"""From a folder of images to a served recogniser.

    python examples/serve_folder.py images/known 8000

Each sub-folder is a class, or each file is one. A second start replaces what the first one enrolled. Then ask it:
oneshot classify images/new
"""

import subprocess
import sys

from oneshot_client import Client

folder, port = sys.argv[1:3]
url = f"http://127.0.0.1:{port}"

with subprocess.Popen(["oneshot", "serve", "--port", port]) as service, Client(url) as client:
    client.wait_ready()
    enrolled = subprocess.run(["oneshot", "enroll", folder, "--url", url], check=False)
    if enrolled.returncode:  # each file that could not be enrolled was named
        service.terminate()
        sys.exit(enrolled.returncode)
    print("ready; stop it with Ctrl-C", flush=True)
