"""The nearest rows, which others were made for: farann beside hnswlib, ScaNN and faiss; groups."""
