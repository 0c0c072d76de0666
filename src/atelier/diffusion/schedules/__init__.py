"""The schedules, a module each; `atelier.diffusion.catalogue` finds them by their SPECS."""
