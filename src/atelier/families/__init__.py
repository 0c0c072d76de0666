"""What kinds of models there are, as data: one module per family exports SPECS; `parts` holds what they are made of.

Importing this package never imports torch.
"""
