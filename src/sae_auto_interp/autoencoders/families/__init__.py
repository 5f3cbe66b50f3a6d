"""One public weight format a file; each reads its files into coders at their sites."""
