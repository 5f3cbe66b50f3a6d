"""How many threads sort runs and merge shards.

Half the cores, at most four: on two cores that is one, the caller's own. Each further one takes some 50 MiB, which
glibc's memory of a thread's own keeps, for a gain of two per cent where the encoder has both cores busy; with 16 cores
and a GPU that does the encoding, four save a fifth of the whole time.
"""

import os

N_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
