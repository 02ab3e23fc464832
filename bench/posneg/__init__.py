"""Likes and dislikes of many people: where they come from, and how they are split."""
