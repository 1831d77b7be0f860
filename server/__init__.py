"""The conversation server and the embedded speech model: input and output, no decisions."""

import os

# The runtime of the embedded voice reports its use to its maker, unless it is turned off before it
# is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Small products of matrices are no quicker on several cores; threads that wait for them would take
# those of others. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
