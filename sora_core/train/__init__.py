"""Training of the three networks. Nothing in the package imports this folder but the command line."""
