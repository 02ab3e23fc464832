"""Real data that take more than reading: sentences, photographs, and a trained recommender."""
