"""The commands that produce the measured figures in the documentation."""
