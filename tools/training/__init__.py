"""What `sidecast train` is made of: configuration, data, optimiser, the loop and its validation."""
