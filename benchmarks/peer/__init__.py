"""Measured programs that run the peer, eai-delphi; they run in its environment and import nothing of ours."""
