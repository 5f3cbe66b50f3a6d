"""The report page and the files beside it."""
