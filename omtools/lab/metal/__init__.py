"""The metal lab: two real machines under emulation, one of which boots over the network from the other."""
