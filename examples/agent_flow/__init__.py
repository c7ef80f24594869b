"""An agent that plans, uses tools and asks a human, on a service that fails and stalls. README.md tells where to start."""
