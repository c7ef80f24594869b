"""The policy of a dendrite that names none.

Owns: that one value: three tries, apart by an exponential backoff with jitter that begins at a second and
stays under a minute; any Exception is retried. A run has no default: without a policy it fails where it
failed.
Refuses: nothing.
"""

from __future__ import annotations

from tenacity import Retrying, stop_after_attempt, wait_exponential_jitter

DEFAULT_POLICY = Retrying(stop=stop_after_attempt(3), wait=wait_exponential_jitter(initial=1, max=60))
