"""Names and files: the published layout, loading and saving, quantised storage, the bundled nano weights."""
