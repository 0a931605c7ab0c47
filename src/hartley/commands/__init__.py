"""Commands of single rooms, one function a module; `hartley.cli` puts them together."""
