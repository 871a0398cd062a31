"""Read and check configuration files, and make samples of them."""
