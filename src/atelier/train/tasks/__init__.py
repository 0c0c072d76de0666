"""The three trainings of a latent diffusion model, each a `Task` of the loop."""
