"""One file for each family of layouts: a model's output as candidates, boxes in pixels of its input."""
