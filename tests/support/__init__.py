"""What tests share: phantoms, models, jobs, a real terminal, recordings of progress, a Qdrant server."""
