"""Versions of what reads the replies of language models; a run knows by which its results were read.

A reader that reads any reply otherwise than before gets the next number. When a run goes on, what an older reader read
is read anew, from the response cache and at no cost (`pipeline.reading_anew`). 1 is every version before these.
"""

EXPLAINERS = 3
JUDGES = 3
"""Judges, and scorers that read replies themselves."""
