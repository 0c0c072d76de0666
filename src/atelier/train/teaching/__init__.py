"""What teaching a model has in common, whatever is trained: the model, what is trainable, what is seen."""
