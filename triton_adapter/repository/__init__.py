"""Model repositories for Triton, made of models that are in other forms."""
