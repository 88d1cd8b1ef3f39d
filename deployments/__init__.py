"""Setting an installation up: services, blocks, pools, limits, policies, deployments. Nothing imports this package."""
