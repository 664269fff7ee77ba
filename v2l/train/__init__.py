"""Training a hypernetwork: clips and what is asked of them in, weights that `ingest --checkpoint` takes out."""
