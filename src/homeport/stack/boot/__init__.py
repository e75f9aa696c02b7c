"""The chain that a container boots: llama-server, LiteLLM, the gateway."""
