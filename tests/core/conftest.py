"""On JAX these tests spend their time compiling small programs: let it optimise them less."""

import os

# Read once, when JAX is first imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
