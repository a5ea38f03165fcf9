"""Shared by tests and benchmarks: servers, databases, clients, clusters, images and artefacts."""
