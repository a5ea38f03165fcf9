"""`python -m testing.ray_program PROGRAM ...` execs that program, inside a new network namespace."""

import os
import sys

if __name__ == "__main__":
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the test's program
