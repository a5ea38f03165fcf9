"""What tests and benchmarks share: servers, databases, clients, clusters, and the images and artefacts they use."""
