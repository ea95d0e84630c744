"""The tiny language model and what the demo models around it need: numpy and the standard library only."""
