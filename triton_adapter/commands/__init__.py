"""What the plugin adds to the command line; each file is imported when its command is run."""
