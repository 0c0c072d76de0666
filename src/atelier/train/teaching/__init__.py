"""What teaching a model that is there has in common, whatever is trained: the model, what is trainable, what is seen."""
