"""The peers: the same model behind other ways to serve it. They run in an environment of their own."""
