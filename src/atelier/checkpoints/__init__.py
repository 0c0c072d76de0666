"""What works for every family: opening, inspecting, converting and writing models, and their text encoders.

Opening and inspecting never import torch: headers are enough to say what a file is.
"""
