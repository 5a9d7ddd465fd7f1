"""transferfn."""
