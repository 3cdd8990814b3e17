"""Where to, and in what order: pure decisions over the catalogue, the configuration and the health of targets."""
