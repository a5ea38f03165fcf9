"""``python -m training`` is ``oneshot-train``."""

from training.cli import main

main()
