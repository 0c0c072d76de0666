"""What a checkpoint is: which parts, which facts, which latents. One module per family exports SPECS.

Importing this package never imports torch: headers are enough to say what a file is.
"""
