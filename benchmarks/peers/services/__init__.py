"""The peers: the same model behind other serving frameworks. They run in their own environment."""
