"""Images as pixels: geometry, masks, colour. Pillow and numpy, no networks but for upscalers and annotators."""
