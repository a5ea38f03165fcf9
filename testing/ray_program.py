"""`python -m testing.ray_program PROGRAM ...` becomes that program; for a namespace that was just set up."""

import os
import sys

if __name__ == "__main__":
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - what the test named
