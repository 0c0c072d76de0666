"""What training sees: captioned images, made from emoji or read from a folder."""
