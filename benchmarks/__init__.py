"""What the figures in the README come from; each is a command."""
