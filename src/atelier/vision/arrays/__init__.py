"""Images as arrays: resizing, filters, edges and shapes, in the rules that programs which annotate images share."""
