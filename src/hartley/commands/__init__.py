"""Commands of the command line that belong to one room."""
