"""Sora's system in pure PyTorch: causal video VAE, spacetime patches, text-conditioned diffusion transformer.

Imports nothing of a host. `pipeline.Pipeline` is the whole chain; `python -m sora_core --help` is its command line.
"""
