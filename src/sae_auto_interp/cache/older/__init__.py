"""The layouts that the original library and delphi write: read, written, converted."""
