"""Code that several demo models share; each model puts this folder on its own `sys.path`."""
