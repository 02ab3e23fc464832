"""Does ranking by likes and dislikes pay? Evidence on real feedback, and speed at scale."""
