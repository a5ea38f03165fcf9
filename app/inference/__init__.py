"""From an uploaded image to its vector: decode, prepare, and share forward passes."""
