"""The data folder: its lock, the models in it, its backup and its export."""
