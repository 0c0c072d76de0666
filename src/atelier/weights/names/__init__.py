"""What every tensor is called: in our modules, in single-file (ldm) checkpoints and in diffusers folders.

Names are enumerated from a spec, so key maps both ways, counts and conversions follow from one function per network.
"""
