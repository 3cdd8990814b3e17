"""In from the world: the data plane's HTTP server, its routes, and the control plane."""
