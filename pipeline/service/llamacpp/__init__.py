"""llama.cpp's server as a child of this process: `endpoint.profile: llamacpp`."""
