"""What training sees: captioned pictures, made from emoji or read from a folder."""
