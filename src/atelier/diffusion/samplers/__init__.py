"""The samplers, a module each; `atelier.diffusion.catalogue` finds them by their SPECS."""
