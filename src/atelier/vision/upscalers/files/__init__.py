"""The architectures of upscalers that are read from files, one module each."""
