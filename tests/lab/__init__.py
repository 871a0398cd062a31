"""A lab of virtual machines: real kernels, file servers that can be frozen, hosts that can be switched off."""
