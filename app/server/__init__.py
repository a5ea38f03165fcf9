"""Processes and sockets: workers, connections and their orderly end."""
