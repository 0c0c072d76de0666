"""The native API: jobs, images, uploads, what there is, and how the server is."""
