"""The base and the hypernetwork in torch: a model's folder, its prompt, generating."""
